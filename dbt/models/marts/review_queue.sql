select
    item.pipeline,
    item.score_date,
    item.key,
    item.score,
    (
        select string_agg(reason, '; ' order by position)
        from jsonb_array_elements_text(item.why) with ordinality as reasons (reason, position)
    ) as why,
    item.publication_id,
    item.publication_id = pointer.publication_id as is_current,
    item.queued_at
from {{ source('catalog', 'review_item') }} as item
inner join {{ source('catalog', 'publication_current') }} as pointer
    on pointer.pipeline = item.pipeline
    and pointer.score_date = item.score_date
where not exists (
    select 1
    from {{ source('catalog', 'feedback') }} as answer
    where answer.pipeline = item.pipeline
    and answer.score_date = item.score_date
    and answer.key = item.key
    and answer.at >= item.queued_at
)

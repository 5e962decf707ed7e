with champions as (
    select
        pipeline,
        version,
        reason,
        actor,
        at as valid_from,
        lead(at) over (partition by pipeline order by event_id) as valid_to
    from {{ source('catalog', 'alias_event') }}
    where alias = 'champion'
)

select
    champions.pipeline,
    champions.version as model_version,
    champions.valid_from,
    champions.valid_to,
    champions.valid_to is null as is_current,
    model.algorithm,
    model.task,
    model.as_of as trained_for,
    model.created_at as trained_at,
    model.created_by as trained_by,
    model.function_hash,
    champions.actor as made_champion_by,
    champions.reason
from champions
inner join {{ source('catalog', 'model_version') }} as model
    on model.pipeline = champions.pipeline
    and model.version = champions.version

{#- Reads the comments that the views themselves carry, so it cannot disagree with them. -#}
select
    relation.relname::text as view_name,
    obj_description(relation.oid, 'pg_class') as view_description,
    attribute.attname::text as column_name,
    format_type(attribute.atttypid, attribute.atttypmod) as data_type,
    col_description(relation.oid, attribute.attnum) as description,
    attribute.attnum::integer as position
from pg_catalog.pg_class as relation
inner join pg_catalog.pg_namespace as namespace
    on namespace.oid = relation.relnamespace
inner join pg_catalog.pg_attribute as attribute
    on attribute.attrelid = relation.oid
where namespace.nspname = 'bi'
    and relation.relkind in ('v', 'r', 'm')
    and attribute.attnum > 0
    and not attribute.attisdropped

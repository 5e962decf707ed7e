{#- Sums over floats depend on the order of the rows, and so on the thread count. These take only integers or
    decimals, whose sums are exact, and divide once at the end. No rows: null. -#}

{% macro exact(column) -%}
    cast({{ column }} as decimal(18, 4))
{%- endmacro %}

{% macro ratio(numerator, denominator) -%}
    cast({{ numerator }} as double) / nullif({{ denominator }}, 0)
{%- endmacro %}

{% macro exact_mean(column, where=none) -%}
    {%- set filter = ' filter (where ' ~ where ~ ')' if where else '' -%}
    {{ ratio('sum(' ~ column ~ ')' ~ filter, 'count(' ~ column ~ ')' ~ filter) }}
{%- endmacro %}

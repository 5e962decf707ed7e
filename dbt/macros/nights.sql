{#- The nights of this build. Dates are parsed, so that nothing but a date reaches the SQL. -#}

{% macro night(var_name) -%}
    date '{{ modules.datetime.date.fromisoformat(var(var_name)) }}'
{%- endmacro %}

{% macro in_build_range(column) -%}
    {{ column }} between {{ night('start_date') }} and {{ night('end_date') }}
{%- endmacro %}

{#- Trailing history: what the outcomes of the past say of the flights of a score date. -#}

{#- The point-in-time rule, in one place: `days` days before the score date, and known by then. -#}
{% macro in_history(outcome, score_date, days) -%}
    {{ outcome }}.event_date between {{ score_date }} - {{ days }} and {{ score_date }} - 1
    and {{ outcome }}.known_on <= {{ score_date }}
{%- endmacro %}

{#- One row per score date and key of the schedule, with or without a past; columns are `<name>_<what>_<days>d`. -#}
{% macro trailing_history(name, keys, windows=(7, 28)) -%}
{%- set measures = ['scheduled', 'cancelled', 'departed', 'dep_delay_min', 'arrived', 'late'] -%}
with score_keys as (

    select distinct score_date, {{ keys | join(', ') }} from {{ ref('stg_flight_delay__schedule') }}

),

daily as (

    select
        {{ keys | join(', ') }}, event_date, known_on,
        {% for measure in measures -%}
        sum({{ measure }}) as {{ measure }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ ref('stg_flight_delay__flights') }}
    group by all

),

summed as (

    select
        score_keys.*,
        {% for days in windows %}{% for measure in measures -%}
        sum({{ measure }}) filter (where {{ in_history('daily', 'score_date', days) }}) as {{ measure }}_{{ days }}d,
        {% endfor %}{% endfor %}
    from score_keys
    left join daily
        on {% for key in keys %}daily.{{ key }} = score_keys.{{ key }} and {% endfor -%}
        {{ in_history('daily', 'score_date', (windows | max)) }}
    group by all

)

select
    score_date, {{ keys | join(', ') }},
    {% for days in windows -%}
    cast(coalesce(scheduled_{{ days }}d, 0) as bigint) as {{ name }}_flights_{{ days }}d,
    {{ ratio('late_' ~ days ~ 'd', 'arrived_' ~ days ~ 'd') }} as {{ name }}_late_share_{{ days }}d,
    {{ ratio('dep_delay_min_' ~ days ~ 'd', 'departed_' ~ days ~ 'd') }} as {{ name }}_dep_delay_{{ days }}d,
    {{ ratio('cancelled_' ~ days ~ 'd', 'scheduled_' ~ days ~ 'd') }} as {{ name }}_cancelled_share_{{ days }}d{{ ',' if not loop.last }}
    {% endfor %}
from summed
{%- endmacro %}

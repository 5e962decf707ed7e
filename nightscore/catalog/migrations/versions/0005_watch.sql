-- what the watch was told, in the order it was told: nights by their evidence, and what people and the gate did.
create table nightscore.watch_event (
    event_id bigint generated always as identity,
    pipeline text not null,
    kind text not null,
    score_date date not null,
    body jsonb not null,
    superseded_by bigint,
    run_id text not null,
    at timestamp with time zone not null,
    primary key (event_id)
);

create index watch_event_by_pipeline on nightscore.watch_event (pipeline, event_id);

-- what the watch remembered after each event.
create table nightscore.watch_state (
    event_id bigint not null,
    pipeline text not null,
    score_date date not null,
    state jsonb not null,
    primary key (event_id),
    foreign key(event_id) references nightscore.watch_event (event_id)
);

create index watch_state_by_pipeline on nightscore.watch_state (pipeline, event_id);

-- whether predictions may be published: the verdict of L1 on one content; no publication without one that passed.
create table nightscore.watch_verdict (
    verdict_id bigint generated always as identity,
    pipeline text not null,
    score_date date not null,
    predictions_md5 text not null,
    reference text not null,
    passed boolean not null,
    reasons jsonb not null,
    notes jsonb not null,
    evidence jsonb not null,
    run_id text not null,
    at timestamp with time zone not null,
    primary key (verdict_id)
);

create index watch_verdict_by_content on nightscore.watch_verdict (pipeline, score_date, predictions_md5, verdict_id);

-- every figure of a night beside its threshold; the newest judgement of a night replaces the older one.
create table nightscore.watch_signal (
    pipeline text not null,
    score_date date not null,
    cause text not null,
    level text not null,
    column_name text,
    value double precision not null,
    threshold double precision not null,
    ratio double precision not null,
    fires boolean not null,
    message text not null,
    reference text not null,
    at timestamp with time zone not null,
    primary key (pipeline, score_date, cause)
);

-- incidents as the newest state of the watch has them.
create table nightscore.incident (
    pipeline text not null,
    incident_id text not null,
    level text not null,
    status text not null,
    cause text not null,
    columns jsonb not null,
    messages jsonb not null,
    opened date not null,
    last_seen date not null,
    closed date,
    nights integer not null,
    actor text,
    reason text not null,
    false_alarm boolean not null,
    at timestamp with time zone not null,
    primary key (pipeline, incident_id)
);

-- figures of a score date as they were known on a date; what is known later is another row.
create table nightscore.metric_value (
    value_id bigint generated always as identity,
    pipeline text not null,
    score_date date not null,
    known_on date not null,
    scope text not null,
    metric text not null,
    value double precision,
    low double precision,
    high double precision,
    rows bigint not null,
    maturity text not null,
    model_version integer,
    detail jsonb not null,
    run_id text not null,
    at timestamp with time zone not null,
    primary key (value_id),
    constraint metric_value_once_known unique (pipeline, score_date, known_on, scope, metric)
);

-- rows that people are asked to look at; keys as in the published table.
create table nightscore.review_item (
    pipeline text not null,
    score_date date not null,
    key jsonb not null,
    publication_id bigint not null,
    score double precision,
    why jsonb not null,
    queued_at timestamp with time zone not null,
    primary key (pipeline, score_date, key),
    foreign key(publication_id) references nightscore.publication (publication_id)
);

-- what people say of rows: corrected labels and verdicts; the newest entry of a row counts.
create table nightscore.feedback (
    feedback_id bigint generated always as identity,
    pipeline text not null,
    score_date date not null,
    key jsonb not null,
    verdict text not null,
    label double precision,
    note text not null,
    reviewer text not null,
    source text not null,
    at timestamp with time zone not null,
    primary key (feedback_id)
);

create index feedback_by_row on nightscore.feedback (pipeline, score_date, feedback_id);

-- messages to people: each once, kept until it is delivered.
create table nightscore.alert (
    alert_id bigint generated always as identity,
    pipeline text not null,
    subject text not null,
    occasion text not null,
    title text not null,
    body text not null,
    status text not null,
    attempts integer not null,
    last_error text,
    delivered jsonb not null,
    created_at timestamp with time zone not null,
    next_try_at timestamp with time zone not null,
    sent_at timestamp with time zone,
    primary key (alert_id),
    constraint alert_once unique (pipeline, subject, occasion)
);

create index alert_by_status on nightscore.alert (status, next_try_at);

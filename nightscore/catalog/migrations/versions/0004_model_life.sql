-- an alias may be given back: the newest event then names no version.
alter table nightscore.alias_event alter column version drop not null;

-- what makes two versions the same recipe on other data: spec, SQL and packages, without data and date.
alter table nightscore.model_version add column family text;

-- approvals, rejections and whatever else becomes of a version; only ever appended.
create table nightscore.model_event (
    event_id bigint generated always as identity,
    pipeline text not null,
    version integer not null,
    event text not null,
    actor text not null,
    reason text not null,
    at timestamp with time zone not null,
    primary key (event_id),
    foreign key(pipeline, version) references nightscore.model_version (pipeline, version)
);

create index model_event_by_version on nightscore.model_event (pipeline, version, event_id);

-- a search for settings, resumed by its fingerprint.
create table nightscore.study (
    study_id bigint generated always as identity,
    pipeline text not null,
    as_of date not null,
    fingerprint text not null,
    space jsonb not null,
    trials integer not null,
    minutes double precision not null,
    created_by text not null,
    created_at timestamp with time zone not null,
    primary key (study_id),
    constraint study_once_a_fingerprint unique (pipeline, fingerprint)
);

-- every fit that was measured: trainings that made a version, trials of a study, runs of `nightscore ci`.
create table nightscore.training_run (
    training_run_id bigint generated always as identity,
    pipeline text not null,
    kind text not null,
    study_id bigint,
    number integer,
    as_of date not null,
    version integer,
    status text not null,
    algorithm text not null,
    parameters jsonb not null,
    snapshot_md5 text not null,
    metrics jsonb not null,
    seconds double precision not null,
    code_sha256 text not null,
    provenance jsonb not null,
    created_by text not null,
    run_id text not null,
    at timestamp with time zone not null,
    primary key (training_run_id),
    foreign key(study_id) references nightscore.study (study_id),
    constraint training_run_once_a_trial unique (study_id, number)
);

create index training_run_by_pipeline on nightscore.training_run (pipeline, training_run_id);

-- the way of a challenger to the champion's place, step by step.
create table nightscore.rollout (
    rollout_id bigint generated always as identity,
    pipeline text not null,
    kind text not null,
    version integer not null,
    base_version integer not null,
    salt text not null,
    entity jsonb not null,
    percent double precision not null,
    step_from date not null,
    status text not null,
    opened_by text not null,
    opened_at timestamp with time zone not null,
    primary key (rollout_id),
    foreign key(pipeline, version) references nightscore.model_version (pipeline, version),
    foreign key(pipeline, base_version) references nightscore.model_version (pipeline, version)
);

create unique index rollout_one_runs_at_a_time on nightscore.rollout (pipeline) where status = 'running';

create table nightscore.rollout_event (
    event_id bigint generated always as identity,
    rollout_id bigint not null,
    event text not null,
    percent double precision not null,
    score_date date not null,
    actor text not null,
    reason text not null,
    evidence jsonb not null,
    at timestamp with time zone not null,
    primary key (event_id),
    foreign key(rollout_id) references nightscore.rollout (rollout_id)
);

create index rollout_event_by_rollout on nightscore.rollout_event (rollout_id, event_id);

-- the catalog's first shape. later changes are migrations of their own; this file stays as it is.
create schema if not exists mart;
create schema if not exists bi;

create table nightscore.deployment_fact (
    name text not null,
    value text not null,
    set_at timestamp with time zone not null,
    primary key (name)
);

create table nightscore.gate_result (
    gate_id bigint generated always as identity,
    pipeline text not null,
    dataset text not null,
    score_date date not null,
    passed boolean not null,
    candidate_md5 text not null,
    rules_hash text not null,
    accepted_md5 text,
    quarantined_md5 text,
    report jsonb not null,
    run_id text not null,
    judged_at timestamp with time zone not null,
    primary key (gate_id)
);

create index gate_result_by_content on nightscore.gate_result (dataset, candidate_md5, rules_hash);

create index gate_result_by_partition on nightscore.gate_result (dataset, score_date, gate_id);

create table nightscore.model_version (
    pipeline text not null,
    version integer not null,
    capsule_md5 text not null,
    manifest_sha256 text not null,
    function_hash text not null,
    recipe_hash text not null,
    snapshot_md5 text not null,
    algorithm text not null,
    task text not null,
    as_of date not null,
    parent integer,
    status text not null,
    metrics jsonb not null,
    created_by text not null,
    purpose text not null,
    run_id text not null,
    created_at timestamp with time zone not null,
    primary key (pipeline, version),
    constraint model_version_once_a_recipe unique (pipeline, recipe_hash)
);

create table nightscore.night_event (
    event_id bigint generated always as identity,
    pipeline text not null,
    score_date date not null,
    status text not null,
    reason text not null,
    run_id text not null,
    at timestamp with time zone not null,
    primary key (event_id)
);

create index night_event_by_night on nightscore.night_event (pipeline, score_date, event_id);

create table nightscore.partition_version (
    version_id bigint generated always as identity,
    dataset text not null,
    score_date date not null,
    md5 text not null,
    rows bigint not null,
    bytes bigint not null,
    fingerprint text not null,
    inputs jsonb not null,
    run_id text not null,
    created_at timestamp with time zone not null,
    primary key (version_id)
);

create index partition_version_by_partition on nightscore.partition_version (dataset, score_date);

create table nightscore.row_account (
    account_id bigint generated always as identity,
    pipeline text not null,
    dataset text not null,
    score_date date not null,
    rows_in bigint not null,
    rows_out bigint not null,
    quarantined bigint not null,
    excluded_rows bigint not null,
    excluded jsonb not null,
    run_id text not null,
    recorded_at timestamp with time zone not null,
    primary key (account_id),
    constraint row_account_balances check (rows_in = rows_out + quarantined + excluded_rows)
);

create index row_account_by_partition on nightscore.row_account (pipeline, score_date);

create table nightscore.step_time (
    step_id bigint generated always as identity,
    pipeline text not null,
    step text not null,
    first_date date not null,
    last_date date not null,
    made bigint not null,
    reused bigint not null,
    blocked bigint not null,
    rows bigint not null,
    seconds double precision not null,
    run_id text not null,
    finished_at timestamp with time zone not null,
    primary key (step_id)
);

create index step_time_by_run on nightscore.step_time (run_id);

create table nightscore.alias_event (
    event_id bigint generated always as identity,
    pipeline text not null,
    alias text not null,
    version integer not null,
    previous integer,
    actor text not null,
    reason text not null,
    at timestamp with time zone not null,
    primary key (event_id),
    foreign key(pipeline, version) references nightscore.model_version (pipeline, version)
);

create index alias_event_by_alias on nightscore.alias_event (pipeline, alias, event_id);

create table nightscore.partition_current (
    dataset text not null,
    score_date date not null,
    version_id bigint not null,
    fingerprint text not null,
    moved_at timestamp with time zone not null,
    primary key (dataset, score_date),
    foreign key(version_id) references nightscore.partition_version (version_id)
);

create table nightscore.partition_event (
    event_id bigint generated always as identity,
    dataset text not null,
    score_date date not null,
    version_id bigint not null,
    replaced_id bigint,
    run_id text not null,
    moved_at timestamp with time zone not null,
    primary key (event_id),
    foreign key(version_id) references nightscore.partition_version (version_id)
);

create index partition_event_by_partition on nightscore.partition_event (dataset, score_date, moved_at);

create table nightscore.receipt (
    receipt_id bigint generated always as identity,
    pipeline text not null,
    score_date date not null,
    predictions_id bigint not null,
    model_version integer not null,
    fingerprint text not null,
    body jsonb not null,
    run_id text not null,
    made_at timestamp with time zone not null,
    primary key (receipt_id),
    constraint receipt_once_a_fingerprint unique (pipeline, score_date, fingerprint),
    foreign key(predictions_id) references nightscore.partition_version (version_id)
);

create table nightscore.publication (
    publication_id bigint generated always as identity,
    pipeline text not null,
    score_date date not null,
    revision integer not null,
    receipt_id bigint not null,
    model_version integer not null,
    rows bigint not null,
    content_md5 text not null,
    kind text not null,
    run_id text not null,
    published_at timestamp with time zone not null,
    primary key (publication_id),
    constraint publication_revision_once unique (pipeline, score_date, revision),
    foreign key(receipt_id) references nightscore.receipt (receipt_id)
);

create table nightscore.publication_current (
    pipeline text not null,
    score_date date not null,
    publication_id bigint not null,
    moved_at timestamp with time zone not null,
    primary key (pipeline, score_date),
    foreign key(publication_id) references nightscore.publication (publication_id)
);

create table nightscore.publication_event (
    event_id bigint generated always as identity,
    pipeline text not null,
    score_date date not null,
    publication_id bigint not null,
    replaced_id bigint,
    actor text not null,
    reason text not null,
    moved_at timestamp with time zone not null,
    primary key (event_id),
    foreign key(publication_id) references nightscore.publication (publication_id)
);

create index publication_event_by_night on nightscore.publication_event (pipeline, score_date, moved_at);

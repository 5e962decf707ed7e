-- history changes by review: staged publications of a range of nights, approved or discarded as one.
create table nightscore.changeset (
    changeset_id bigint generated always as identity,
    pipeline text not null,
    kind text not null,
    first_date date not null,
    last_date date not null,
    model_policy text not null,
    scope text not null,
    reason text not null,
    status text not null,
    created_by text not null,
    created_at timestamp with time zone not null,
    primary key (changeset_id)
);

create index changeset_by_pipeline on nightscore.changeset (pipeline, changeset_id);

create table nightscore.changeset_item (
    changeset_id bigint not null,
    score_date date not null,
    base_publication_id bigint,
    model_version integer not null,
    outcome text not null,
    reason text not null,
    predictions_id bigint,
    receipt_id bigint,
    publication_id bigint,
    rows bigint not null,
    seconds double precision not null,
    difference jsonb,
    run_id text not null,
    at timestamp with time zone not null,
    primary key (changeset_id, score_date),
    foreign key(changeset_id) references nightscore.changeset (changeset_id),
    foreign key(predictions_id) references nightscore.partition_version (version_id),
    foreign key(receipt_id) references nightscore.receipt (receipt_id),
    foreign key(publication_id) references nightscore.publication (publication_id)
);

create table nightscore.changeset_event (
    event_id bigint generated always as identity,
    changeset_id bigint not null,
    event text not null,
    actor text not null,
    reason text not null,
    at timestamp with time zone not null,
    primary key (event_id),
    foreign key(changeset_id) references nightscore.changeset (changeset_id)
);

create index changeset_event_by_changeset on nightscore.changeset_event (changeset_id, event_id);

-- a move to nothing: the undo of a night that had never been published before.
alter table nightscore.publication_event alter column publication_id drop not null;

-- every decision and every decision not to, with its evidence.
create table nightscore.decision (
    decision_id bigint generated always as identity,
    pipeline text not null,
    kind text not null,
    subject text not null,
    verdict text not null,
    reason text not null,
    evidence jsonb not null,
    actor text not null,
    at timestamp with time zone not null,
    primary key (decision_id)
);

create index decision_by_pipeline on nightscore.decision (pipeline, kind, decision_id);

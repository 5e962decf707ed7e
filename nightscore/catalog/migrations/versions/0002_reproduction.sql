-- what things mean and where they come from, beside what they are: content hashes, origins, provenance, reproductions.
alter table nightscore.partition_version add column content_sha256 text;
alter table nightscore.partition_version add column origin jsonb;
alter table nightscore.model_version add column provenance jsonb;
alter table nightscore.receipt add column snapshot_md5 text;

create table nightscore.wheelhouse (
    lock_sha256 text not null,
    platform text not null,
    directory_md5 text not null,
    bytes bigint not null,
    stored_at timestamp with time zone not null,
    primary key (lock_sha256, platform)
);

create table nightscore.reproduction (
    reproduction_id bigint generated always as identity,
    pipeline text not null,
    kind text not null,
    version integer not null,
    score_date date,
    receipt_id bigint,
    outcome text not null,
    level text,
    first_difference text,
    report jsonb not null,
    asked_by text not null,
    run_id text not null,
    seconds double precision not null,
    at timestamp with time zone not null,
    primary key (reproduction_id)
);

create index reproduction_by_subject on nightscore.reproduction (pipeline, kind, version, score_date, reproduction_id);

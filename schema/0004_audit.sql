-- +goose Up
-- Append-only. id is a UUIDv7 made from at, so the primary key is also the
-- index by time. No foreign keys: an event outlives what it tells about, and a
-- key check on tenant would share-lock one row in every hot transaction.
create table audit_event (
    tenant_id text        not null,
    id        uuid        not null,
    at        timestamptz not null,
    action    text        not null check (length(action) between 1 and 64),
    actor     text        not null,
    subject   text        not null,
    user_id   text        not null,
    app_id    text        not null,
    outcome   text        not null check (length(outcome) between 1 and 64),
    detail    jsonb,
    primary key (tenant_id, id)
);
create index audit_event_user on audit_event (tenant_id, user_id, id);

-- +goose Up
-- How far each node has seen this database, counted up by the node once a second.
-- The node keeps the number outside of the database as well: a row that is behind
-- it, or gone, is a database that was set back.
create table rollback_mark (
    node      uuid        primary key,
    seq       bigint      not null check (seq > 0),
    beaten_at timestamptz not null
);

-- Tenants whose verdicts are refused since the database was set back, until an
-- operator has moved their counters on. Released rows stay: what is older than
-- detected_at is not believed by its time afterwards either.
create table rollback_hold (
    tenant_id   text        not null references tenant (id),
    detected_at timestamptz not null,
    node        uuid        not null, -- that found out
    expected    bigint      not null, -- what the node had seen
    found       bigint      not null, -- what the database said; 0: nothing
    advance     integer     check (advance >= 0), -- of each counter, once an operator has begun
    cursor      uuid,                  -- the last registration that was advanced
    released_at timestamptz,
    primary key (tenant_id, detected_at)
);
create index rollback_hold_open on rollback_hold (tenant_id) where released_at is null;

-- The counter that an operator moved the registration on to. Until a signature
-- passes it, the phone may be further behind than in normal life.
alter table registration add column advanced_to bigint;

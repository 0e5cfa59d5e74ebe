-- +goose Up
-- What operations are made from. An operation copies all it needs when it is
-- made: changing or deleting a template never touches one that a person may
-- already be looking at, and so there is no foreign key between the two.
create table operation_template (
    tenant_id       text        not null references tenant (id),
    name            text        not null check (length(name) between 1 and 255),
    operation_type  text        not null check (length(operation_type) between 1 and 255),
    data_template   text        not null,
    signature_types text[]      not null check (cardinality(signature_types) > 0),
    max_failures    bigint      not null check (max_failures > 0),
    lifetime        bigint      not null check (lifetime > 0), -- seconds
    risk_flags      text        not null,
    proximity       boolean     not null,
    texts           jsonb       not null, -- by language
    created_at      timestamptz not null,
    changed_at      timestamptz not null,
    primary key (tenant_id, name)
);

-- Something for a person to decide. revision counts every change and is the only
-- column that a writer compares. The tenant was checked with the user's
-- registration, so no key check share-locks its row for every operation.
create table operation (
    tenant_id       text        not null,
    id              uuid        not null,
    apps            text[]      not null check (cardinality(apps) > 0), -- whose devices may decide
    user_id         text        not null check (length(user_id) between 1 and 255),
    external_id     text        not null, -- empty: none
    flag            text        not null, -- empty: none
    template        text        not null,
    operation_type  text        not null,
    language        text        not null,
    parameters      jsonb       not null,
    data            text        not null,
    texts           jsonb       not null, -- by language, with the parameters put in
    signature_types text[]      not null,
    risk_flags      text        not null,
    proximity_seed  bytea,      -- sealed; null: no proximity check
    state           text        not null check (state in ('PENDING', 'CANCELED', 'EXPIRED', 'APPROVED', 'REJECTED', 'FAILED')),
    reason          text        not null,
    additional      jsonb       not null, -- who decided and how
    failures        bigint      not null check (failures between 0 and max_failures),
    max_failures    bigint      not null check (max_failures > 0),
    attempt         bytea       check (octet_length(attempt) = 32), -- the offline OTP whose check was begun last
    revision        bigint      not null check (revision > 0),
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    finished_at     timestamptz,
    primary key (tenant_id, id),
    check ((state = 'PENDING') = (finished_at is null))
);
-- For a device's list and history.
create index operation_user on operation (tenant_id, user_id, created_at);
-- For the sweeper: it holds only what is open, so its scan never meets old rows.
create index operation_open on operation (expires_at) where state = 'PENDING';

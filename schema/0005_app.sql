-- +goose Up
-- A PowerAuth application. The row is written as CREATING before its master key
-- is made in the HSM: master_id is the intended CKA_ID, so that a key left by a
-- crash can be told from a stranger's and be adopted.
create table app (
    tenant_id     text        not null references tenant (id),
    id            text        not null check (length(id) between 1 and 255),
    state         text        not null check (state in ('CREATING', 'READY')),
    roles         text[]      not null,
    master_id     uuid        not null,
    master_public bytea       check (octet_length(master_public) = 65),
    created_at    timestamptz not null,
    ready_at      timestamptz,
    primary key (tenant_id, id),
    check ((state = 'READY') = (master_public is not null and ready_at is not null))
);

-- What a mobile app carries. A request of a device names nothing but the key,
-- so the key is unique over all tenants and leads to its tenant.
create table app_version (
    tenant_id     text        not null,
    app_id        text        not null,
    name          text        not null check (length(name) between 1 and 255),
    key           bytea       not null check (octet_length(key) = 16),
    secret_sealed bytea       not null,
    supported     boolean     not null,
    created_at    timestamptz not null,
    primary key (tenant_id, app_id, name),
    foreign key (tenant_id, app_id) references app (tenant_id, id),
    constraint app_version_key unique (key)
);

-- +goose Up
-- A tenant's data key, sealed by the key-encryption key in the HSM that kek
-- names. Rows are never changed: a new key is a new version, and deleting the
-- rows of a tenant makes everything sealed for it unreadable.
create table dek (
    tenant_id  text        not null references tenant (id),
    version    integer     not null check (version > 0),
    kek        text        not null check (length(kek) between 1 and 255),
    sealed     bytea       not null check (octet_length(sealed) between 32 and 512),
    created_at timestamptz not null,
    primary key (tenant_id, version)
);

-- +goose Up
-- Data keys have a purpose, the table whose values they seal, and a life:
-- ADDED (stored, not used), PRIMARY (seals), RETIRING (opens, while its values are
-- sealed anew), RETIRED (seals nothing any more; removed after a while). Version
-- numbers stay one count per tenant, so that a blob names its key without the
-- purpose. Purpose '' is a key from before there were purposes: of all tables.
alter table dek
    add column purpose    text        not null default '',
    add column state      text        not null default 'PRIMARY'
        check (state in ('ADDED', 'PRIMARY', 'RETIRING', 'RETIRED')),
    add column state_at   timestamptz not null default now(),
    add column held_until timestamptz not null default '-infinity';
create unique index dek_primary on dek (tenant_id, purpose) where state = 'PRIMARY';
create index dek_retiring on dek (held_until) where state = 'RETIRING';

-- Which key-encryption keys of the HSM seal data keys, by label. A row is written
-- before the key is made, with the CKA_ID it will have.
create table kek (
    name       text        not null primary key check (length(name) between 1 and 255),
    key_id     bytea       check (octet_length(key_id) = 16),
    state      text        not null check (state in ('ADDED', 'PRIMARY', 'RETIRING', 'RETIRED')),
    state_at   timestamptz not null,
    created_at timestamptz not null
);
create unique index kek_primary on kek (state) where state = 'PRIMARY';

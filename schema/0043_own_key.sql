-- +goose Up
-- The installation's own keys in the HSM, which no tenant's row explains: the first
-- key-encryption key and the one that signs the audit log, by label. The row is
-- written before the key is made, with the CKA_ID it will have; MAKING belongs to
-- who wrote it until the time in until, and what is on the token under the label
-- after that is what a crash left. A key that is READY is never made again.
create table own_key (
    name       text        not null primary key check (length(name) between 1 and 255),
    key_id     bytea       not null check (octet_length(key_id) = 16),
    state      text        not null check (state in ('MAKING', 'READY')),
    until      timestamptz,
    created_at timestamptz not null,
    ready_at   timestamptz,
    constraint own_key_made check ((state = 'READY') = (until is null) and (state = 'READY') = (ready_at is not null))
);

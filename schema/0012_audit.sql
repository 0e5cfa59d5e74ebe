-- +goose Up
-- The hash chain over audit_event, one per tenant (docs/design/0005). A sealer
-- appends to it; the hot path writes audit_event alone and never waits here. No
-- foreign keys: a deleted event must leave the row that tells of it.
create table audit_chain (
    tenant_id text   not null,
    seq       bigint not null check (seq > 0),
    event_id  uuid   not null,
    hash      bytea  not null check (octet_length(hash) = 32),
    primary key (tenant_id, seq),
    constraint audit_chain_event unique (tenant_id, event_id)
);

-- Where the chain ends, and who extends it. The only row here that changes: its
-- compare-and-swap and the new rows of audit_chain are one statement. Every event
-- with an id below mark is sealed.
create table audit_head (
    tenant_id  text        not null primary key,
    seq        bigint      not null check (seq >= 0),
    hash       bytea       not null check (octet_length(hash) = 32),
    mark       uuid        not null,
    holder     text        not null,
    held_until timestamptz not null
);

-- The state of a head, signed in the HSM. previous is the hash of the signed text
-- of the checkpoint before.
create table audit_checkpoint (
    tenant_id text        not null,
    number    bigint      not null check (number > 0),
    seq       bigint      not null check (seq > 0),
    hash      bytea       not null check (octet_length(hash) = 32),
    mark      uuid        not null,
    at        timestamptz not null,
    previous  bytea       not null check (octet_length(previous) = 32),
    key_label text        not null check (length(key_label) between 1 and 255),
    signature bytea       not null,
    primary key (tenant_id, number)
);

-- +goose Up
-- What the sweeper looks for. No statement of a verification changes these
-- columns, so that it stays a HOT update.
create index registration_stale on registration (expires_at) where state in ('CREATED', 'PENDING_COMMIT');
-- A device asks for its status with nothing but its id, which must lead to one
-- tenant.
create unique index registration_id on registration (id);

-- A key pair that devices encrypt for during five minutes (protocol 3.3): of an
-- application version, or of one registration. No foreign key to registration:
-- rows live for minutes and the application is checked at each use.
create table temporary_key (
    tenant_id       text        not null references tenant (id),
    id              uuid        not null,
    app_key         bytea       not null check (octet_length(app_key) = 16),
    registration_id uuid,
    private_sealed  bytea       not null,
    expires_at      timestamptz not null,
    created_at      timestamptz not null,
    primary key (tenant_id, id)
);
create index temporary_key_expiry on temporary_key (expires_at);

-- Encrypted requests that were served (protocol 3.2 and later), kept for as long
-- as their timestamp would be accepted. value is a hash of the ephemeral key and
-- the nonce.
create table used_nonce (
    tenant_id  text        not null,
    type       text        not null check (type in ('APPLICATION', 'REGISTRATION', 'TEMPORARY_KEY')),
    identifier text        not null,
    value      bytea       not null check (octet_length(value) = 32),
    expires_at timestamptz not null,
    primary key (tenant_id, type, identifier, value)
);
create index used_nonce_expiry on used_nonce (expires_at);

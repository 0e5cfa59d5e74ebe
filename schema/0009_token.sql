-- +goose Up
-- What a device proves itself with where a signature would move the counter too
-- often. The secret is sealed; factors are those that signed when it was made.
create table token (
    tenant_id       text        not null,
    id              uuid        not null,
    registration_id uuid        not null,
    app_id          text        not null,
    user_id         text        not null,
    factors         text        not null check (length(factors) between 1 and 64),
    secret_sealed   bytea       not null,
    created_at      timestamptz not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, registration_id) references registration (tenant_id, id)
);
create index token_registration on token (tenant_id, registration_id);

-- Nonces that were accepted, for as long as their timestamp would be. No foreign
-- key: a row is written for each verification, and outlives its token harmlessly.
create table token_nonce (
    tenant_id  text        not null,
    token_id   uuid        not null,
    nonce      bytea       not null check (octet_length(nonce) = 16),
    expires_at timestamptz not null,
    primary key (tenant_id, token_id, nonce)
);
create index token_nonce_expiry on token_nonce (expires_at);

-- +goose Up
-- Credentials of HTTP Basic callers. The MAC is HMAC-SHA256 of the server-made
-- secret under the pepper of that version, bound to tenant, name and role.
create table access_credential (
    tenant_id      text        not null references tenant (id),
    username       text        not null check (octet_length(username) between 1 and 255),
    role           text        not null check (role in ('integration', 'admin', 'internal')),
    mac            bytea       not null check (octet_length(mac) = 32),
    pepper_version integer     not null check (pepper_version > 0),
    created_at     timestamptz not null,
    disabled_at    timestamptz,
    primary key (tenant_id, username)
);
-- A login names no tenant, so a username selects one.
create unique index access_credential_username on access_credential (username);

-- Applications a credential may act for. app_id is not a foreign key: the app
-- package owns applications, and a grant may be given before one exists.
create table access_grant (
    tenant_id  text        not null,
    username   text        not null,
    app_id     text        not null check (octet_length(app_id) between 1 and 255),
    created_at timestamptz not null,
    primary key (tenant_id, username, app_id),
    foreign key (tenant_id, username) references access_credential (tenant_id, username)
);

-- The pepper, sealed by package envelope; the owner is the tenant _system.
create table access_pepper (
    tenant_id  text        not null references tenant (id),
    version    integer     not null check (version > 0),
    sealed     bytea       not null,
    created_at timestamptz not null,
    primary key (tenant_id, version)
);

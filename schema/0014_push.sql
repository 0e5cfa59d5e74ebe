-- +goose Up
-- Where a registration's pushes go. The provider's token is personal data, so it
-- is sealed; changed_at tells a token that was just replaced from the one a
-- provider calls dead.
create table push_device (
    tenant_id       text        not null,
    registration_id uuid        not null,
    app_id          text        not null,
    platform        text        not null check (platform in ('apns', 'fcm', 'hms')),
    token_sealed    bytea       not null,
    changed_at      timestamptz not null,
    primary key (tenant_id, registration_id),
    foreign key (tenant_id, registration_id) references registration (tenant_id, id),
    foreign key (tenant_id, app_id) references app (tenant_id, id)
);

-- How an application logs in at a provider: JSON, sealed as a whole. revision
-- goes up with each change, so that a node sees when its sender is out of date.
create table push_credential (
    tenant_id  text        not null,
    app_id     text        not null,
    platform   text        not null check (platform in ('apns', 'fcm', 'hms')),
    sealed     bytea       not null,
    revision   bigint      not null check (revision > 0),
    changed_at timestamptz not null,
    primary key (tenant_id, app_id, platform),
    foreign key (tenant_id, app_id) references app (tenant_id, id)
);

-- Messages to a user of an application. id is a UUIDv7, the order of time.
create table push_inbox (
    tenant_id  text        not null,
    app_id     text        not null,
    user_id    text        not null check (length(user_id) between 1 and 255),
    id         uuid        not null,
    subject    text        not null check (length(subject) between 1 and 255),
    summary    text        not null check (length(summary) between 1 and 1024),
    body       text        not null,
    type       text        not null check (type in ('text', 'html')),
    created_at timestamptz not null,
    read_at    timestamptz,
    primary key (tenant_id, app_id, user_id, id),
    foreign key (tenant_id, app_id) references app (tenant_id, id)
);

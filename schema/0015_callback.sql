-- +goose Up
-- Where an application's backend wants to hear of changes. The signing secret is
-- sealed; after a rotation the previous one signs as well until previous_until.
create table callback_endpoint (
    tenant_id       text        not null,
    id              uuid        not null,
    app_id          text        not null,
    name            text        not null check (length(name) between 1 and 255),
    type            text        not null check (type in ('REGISTRATION_STATUS_CHANGE', 'OPERATION_STATUS_CHANGE')),
    url             text        not null check (length(url) between 1 and 2048),
    secret_sealed   bytea       not null,
    previous_sealed bytea,
    previous_until  timestamptz,
    created_at      timestamptz not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, app_id) references app (tenant_id, id),
    constraint callback_endpoint_name unique (tenant_id, app_id, name),
    constraint callback_endpoint_previous check ((previous_sealed is null) = (previous_until is null))
);

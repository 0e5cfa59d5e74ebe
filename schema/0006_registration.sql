-- +goose Up
-- A device of a user for one application. revision counts every change and is
-- the only column that a writer compares; a verification updates none of the
-- indexed columns, so that with room on the page it stays a HOT update.
create table registration (
    tenant_id             text        not null,
    id                    uuid        not null,
    app_id                text        not null,
    user_id               text        not null check (length(user_id) between 1 and 255),
    activation_code       text        not null check (length(activation_code) = 23),
    state                 text        not null check (state in ('CREATED', 'PENDING_COMMIT', 'ACTIVE', 'BLOCKED', 'REMOVED')),
    otp_mode              text        not null check (otp_mode in ('NONE', 'ON_KEY_EXCHANGE', 'ON_COMMIT')),
    otp_hash              text,
    flags                 text[]      not null,
    name                  text        not null,
    platform              text        not null,
    device_info           text        not null,
    device_public_key     bytea       check (octet_length(device_public_key) = 65),
    server_public_key     bytea       not null check (octet_length(server_public_key) = 65),
    server_private_sealed bytea       not null,
    master_secret_sealed  bytea,      -- KEY_MASTER_SECRET, the root of the derived keys
    ctr_data              bytea       check (octet_length(ctr_data) = 16),
    counter               bigint      not null check (counter >= 0),
    failed_attempts       integer     not null check (failed_attempts >= 0),
    failed_possession     integer     not null check (failed_possession between 0 and failed_attempts),
    max_failed_attempts   integer     not null check (max_failed_attempts > 0),
    blocked_reason        text,
    version               text        not null,
    revision              bigint      not null check (revision > 0),
    expires_at            timestamptz not null,
    created_at            timestamptz not null,
    changed_at            timestamptz not null,
    last_used_at          timestamptz not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, app_id) references app (tenant_id, id),
    constraint registration_otp check ((otp_mode = 'NONE') = (otp_hash is null)),
    constraint registration_keys check (
        state in ('CREATED', 'REMOVED')
        or (device_public_key is not null and master_secret_sealed is not null and ctr_data is not null)),
    constraint registration_blocked check (state <> 'BLOCKED' or blocked_reason is not null)
) with (fillfactor = 70);
create unique index registration_in_progress on registration (tenant_id, app_id, user_id)
    where state in ('CREATED', 'PENDING_COMMIT');
create unique index registration_live_code on registration (tenant_id, app_id, activation_code)
    where state = 'CREATED';
create index registration_user on registration (tenant_id, user_id, created_at);

-- +goose Up
-- Master keys after the first, which stays in app. A row is written as CREATING
-- before the HSM makes the key: key_id is the intended CKA_ID. FAILED ones are
-- debris of a crash; their generations are not used again.
create table app_master (
    tenant_id  text        not null,
    app_id     text        not null,
    generation integer     not null check (generation > 0),
    state      text        not null check (state in ('CREATING', 'READY', 'FAILED')),
    key_id     uuid        not null,
    public     bytea       check (octet_length(public) = 65),
    created_at timestamptz not null,
    ready_at   timestamptz,
    primary key (tenant_id, app_id, generation),
    foreign key (tenant_id, app_id) references app (tenant_id, id),
    check ((state = 'READY') = (public is not null and ready_at is not null))
);
create unique index app_master_one_creating on app_master (tenant_id, app_id) where state = 'CREATING';

-- The phones with a version of the mobile app carry the public half of this
-- generation. Versions made before there was a second one carry the first.
alter table app_version add column master_generation integer not null default 0 check (master_generation >= 0);

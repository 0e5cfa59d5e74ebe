-- +goose Up
create table tenant (
    id         text primary key check (length(id) between 3 and 64),
    created_at timestamptz not null default now()
);
-- Owner of what belongs to the installation; tenant.Parse never returns it.
insert into tenant (id) values ('_system');

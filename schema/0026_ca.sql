-- +goose Up
-- When a signer last changed in what other nodes act by: its state or its
-- certificate. By the database's clock, unlike updated_at: a node whose own clock
-- is wrong must not hide a revocation from the others.
alter table ca_signer add column changed_at timestamptz not null default now();
create index ca_signer_changed on ca_signer (changed_at);

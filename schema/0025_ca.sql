-- +goose Up
-- stated_at is when a signer last signed a statement, as the configuration of
-- apps: such a signer can not be deleted any more. The index finds what was
-- renewed by means of a certificate, which is revoked together with it.
alter table ca_signer add column stated_at timestamptz;
create index ca_certificate_replaces on ca_certificate (tenant_id, replaces) where replaces is not null;

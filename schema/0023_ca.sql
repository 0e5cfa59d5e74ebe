-- +goose Up
-- The key that answers OCSP for a signer. ocsp_key_id, its name in the HSM, is
-- recorded before it is made; ocsp_until is the end of the newest certificate
-- for it, after which nothing that it has signed counts. The key of a signer
-- that has ended is destroyed after that: ocsp_doomed_at is recorded first,
-- ocsp_destroyed_at when it is done.
alter table ca_signer
    add column ocsp_key_id       bytea check (octet_length(ocsp_key_id) = 20),
    add column ocsp_until        timestamptz,
    add column ocsp_doomed_at    timestamptz,
    add column ocsp_destroyed_at timestamptz;
alter table ca_signer add constraint ca_signer_ocsp check (
    (ocsp_key_id is null) = (ocsp_until is null)
    and (ocsp_doomed_at is null or ocsp_key_id is not null and state in ('REVOKED', 'DELETED'))
    and (ocsp_destroyed_at is null or ocsp_doomed_at is not null));
create index ca_signer_ocsp_keys on ca_signer (ocsp_until)
    where state in ('REVOKED', 'DELETED') and ocsp_key_id is not null and ocsp_destroyed_at is null;

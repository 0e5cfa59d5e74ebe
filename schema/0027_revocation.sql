-- +goose Up
-- The certificates of the keys that sign CRLs in a CA's place, where that is
-- configured; as ca_ocsp_delegate.
create table ca_crl_delegate (
    issuer_key_id bytea       not null check (octet_length(issuer_key_id) = 20),
    revision      integer     not null check (revision > 0),
    serial        bytea       not null check (octet_length(serial) = 16),
    created_at    timestamptz not null,
    certificate   bytea,
    not_before    timestamptz,
    not_after     timestamptz,
    primary key (issuer_key_id, revision),
    constraint ca_crl_delegate_serial unique (serial),
    constraint ca_crl_delegate_whole check (
        (certificate is null) = (not_before is null) and (certificate is null) = (not_after is null))
);

-- The life of such a key of a signer, as that of its OCSP key.
alter table ca_signer
    add column crl_key_id       bytea check (octet_length(crl_key_id) = 20),
    add column crl_until        timestamptz,
    add column crl_doomed_at    timestamptz,
    add column crl_destroyed_at timestamptz;
alter table ca_signer add constraint ca_signer_crl check (
    (crl_key_id is null) = (crl_until is null)
    and (crl_doomed_at is null or crl_key_id is not null and state in ('REVOKED', 'DELETED'))
    and (crl_destroyed_at is null or crl_doomed_at is not null));
create index ca_signer_crl_keys on ca_signer (crl_until)
    where state in ('REVOKED', 'DELETED') and crl_key_id is not null and crl_destroyed_at is null;

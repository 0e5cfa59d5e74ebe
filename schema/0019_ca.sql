-- +goose Up
-- The life of signers after their creation. DELETED hides a signer that issued
-- nothing; its row stays, so that its generation, and with it its key's label, is
-- not used again. The key of a FAILED or DELETED signer is destroyed after that
-- was recorded, and key_destroyed_at says that it is done. A lease is who works
-- at the row until when, by the database's clock: on a PENDING signer its
-- creation, on an ACTIVE one the rotation by age.
alter table ca_signer
    add column crl_shards        integer not null default 1 check (crl_shards between 1 and 1024),
    add column revoked_at        timestamptz,
    add column revoked_by        text,
    add column revocation_reason smallint check (revocation_reason in (0, 1, 2, 3, 4, 5, 9, 10)),
    add column key_destroyed_at  timestamptz,
    add column lease_owner       text,
    add column lease_until       timestamptz;
alter table ca_signer drop constraint ca_signer_state;
alter table ca_signer add constraint ca_signer_state
    check (state in ('PENDING', 'ACTIVE', 'RETIRED', 'REVOKED', 'FAILED', 'DELETED'));
alter table ca_signer add constraint ca_signer_revoked check (
    (state = 'REVOKED') = (revoked_at is not null)
    and (state = 'REVOKED') = (revocation_reason is not null)
    and (state <> 'REVOKED' or certificate is null));
-- What the reconciler looks for.
create index ca_signer_unsettled on ca_signer (updated_at)
    where state = 'PENDING' or (state in ('FAILED', 'DELETED') and key_destroyed_at is null);

-- A signer has a row for each of its certificates: the first one, which has the
-- signer's id as its reference, and one for each attempt to renew it. sequence
-- counts them, and the highest is the one that the signer's id stands for. A
-- REQUESTED row is a queue entry: with a lease_owner somebody may be signing;
-- without one, nobody has begun, and lease_until is when to.
alter table ca_certificate
    add column subject_signer_id text,
    add column sequence          integer not null default 0 check (sequence >= 0),
    add column attempt           integer not null default 0 check (attempt >= 0),
    add column replaces          text check (length(replaces) = 26),
    add column actor             text,
    add column revoked_at        timestamptz,
    add column revoked_by        text,
    add column revocation_reason smallint check (revocation_reason in (0, 1, 2, 3, 4, 5, 9, 10)),
    add column lease_owner       text,
    add column lease_until       timestamptz,
    add foreign key (tenant_id, subject_signer_id) references ca_signer (tenant_id, id);
update ca_certificate set subject_signer_id = cert_ref where signer_id is null;
update ca_certificate set lease_until = requested_at where status = 'REQUESTED';
alter table ca_certificate drop constraint ca_certificate_status;
alter table ca_certificate add constraint ca_certificate_status
    check (status in ('REQUESTED', 'ISSUED', 'FAILED', 'REVOKED'));
alter table ca_certificate drop constraint ca_certificate_issued;
-- A revoked leaf is kept; that of a signer is erased (CA-11), ca_revocation has
-- its hash.
alter table ca_certificate add constraint ca_certificate_issued check (
    (status in ('ISSUED', 'REVOKED')) = (issued_at is not null)
    and (status <> 'ISSUED' or certificate is not null)
    and (status in ('ISSUED', 'REVOKED') or certificate is null));
alter table ca_certificate add constraint ca_certificate_revoked check (
    (status = 'REVOKED') = (revoked_at is not null)
    and (status = 'REVOKED') = (revocation_reason is not null));
create unique index ca_certificate_of_signer on ca_certificate (tenant_id, subject_signer_id, sequence)
    where subject_signer_id is not null;
create unique index ca_certificate_one_request on ca_certificate (tenant_id, subject_signer_id)
    where subject_signer_id is not null and status = 'REQUESTED';
create index ca_certificate_unsettled on ca_certificate (lease_until) where status = 'REQUESTED';
-- "Was anything issued by this signer?", and all of it in pages.
drop index ca_certificate_signer;
create index ca_certificate_signer on ca_certificate (tenant_id, signer_id, cert_ref);

-- +goose Up
-- What remains of a revoked certificate. Rows are never deleted; state is only
-- about the CRL: PENDING is on none yet, LISTED is on the published one, DROPPED
-- has left it, expired and listed once after that. tenant_id is the
-- certificate's tenant; the installation's issuer has those of all tenants.
create table ca_revocation (
    tenant_id     text        not null references tenant (id),
    issuer_key_id bytea       not null check (octet_length(issuer_key_id) = 20),
    serial        bytea       not null check (octet_length(serial) = 16),
    shard         integer     not null check (shard >= 0),
    cert_ref      text        not null check (length(cert_ref) = 26),
    sha256        bytea       not null check (octet_length(sha256) = 32),
    reason        smallint    not null check (reason in (0, 1, 2, 3, 4, 5, 9, 10)),
    revoked_at    timestamptz not null,
    invalid_since timestamptz,
    not_after     timestamptz not null,
    actor         text        not null,
    state         text        not null default 'PENDING',
    primary key (tenant_id, issuer_key_id, serial),
    constraint ca_revocation_once unique (issuer_key_id, serial),
    constraint ca_revocation_state check (state in ('PENDING', 'LISTED', 'DROPPED'))
);
-- The entries of one CRL, and the CRLs that are out of date.
create index ca_revocation_shard on ca_revocation (issuer_key_id, shard) where state <> 'DROPPED';
create index ca_revocation_pending on ca_revocation (issuer_key_id, shard) where state = 'PENDING';

-- The CRLs. They are public and found by the issuer's key, so no tenant leads
-- the key. number is the last number taken: by raising it a node claims the
-- build, and it can publish only while the number is still its own. der is the
-- CRL of published_number, and null before the first one.
create table ca_crl (
    issuer_key_id    bytea       not null check (octet_length(issuer_key_id) = 20),
    shard            integer     not null check (shard >= 0),
    number           bigint      not null default 0 check (number >= 0),
    claimed_until    timestamptz,
    published_number bigint,
    this_update      timestamptz,
    next_update      timestamptz,
    entries          integer,
    der              bytea,
    refresh_at       timestamptz, -- null: the issuer signs no more
    primary key (issuer_key_id, shard),
    constraint ca_crl_published check (published_number <= number),
    constraint ca_crl_whole check (
        (der is null) = (published_number is null) and (der is null) = (this_update is null)
        and (der is null) = (next_update is null) and (der is null) = (entries is null))
);
create index ca_crl_refresh on ca_crl (refresh_at);

-- OCSP responses, kept while they are asked for. certid_hash is the hash of the
-- request's CertID, which the response repeats.
create table ca_ocsp (
    issuer_key_id bytea       not null check (octet_length(issuer_key_id) = 20),
    serial        bytea       not null check (octet_length(serial) = 16),
    certid_hash   text        not null check (certid_hash in ('SHA-1', 'SHA-256')),
    status        text        not null check (status in ('GOOD', 'REVOKED')),
    this_update   timestamptz not null,
    next_update   timestamptz not null,
    der           bytea       not null,
    asked_at      timestamptz not null,
    refresh_at    timestamptz not null,
    claimed_until timestamptz,
    primary key (issuer_key_id, serial, certid_hash)
);
create index ca_ocsp_refresh on ca_ocsp (refresh_at);

-- The certificates of the keys that sign OCSP responses. The row is written
-- before the CA signs: it is the intent, with the serial, and the claim of the
-- revision. They are apart from ca_certificate because a CA that has only these
-- has issued nothing.
create table ca_ocsp_delegate (
    issuer_key_id bytea       not null check (octet_length(issuer_key_id) = 20),
    revision      integer     not null check (revision > 0),
    serial        bytea       not null check (octet_length(serial) = 16),
    created_at    timestamptz not null,
    certificate   bytea,
    not_before    timestamptz,
    not_after     timestamptz,
    primary key (issuer_key_id, revision),
    constraint ca_ocsp_delegate_serial unique (serial),
    constraint ca_ocsp_delegate_whole check (
        (certificate is null) = (not_before is null) and (certificate is null) = (not_after is null))
);

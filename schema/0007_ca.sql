-- +goose Up
-- A tenant's CA. The row is written as PENDING, with its generation, before the
-- HSM makes the key: id is the intended CKA_ID and key_label the CKA_LABEL, so
-- that a key left by a crash is found by its intent. PENDING and FAILED rows are
-- seen by nobody outside; their generations are not used again.
create table ca_signer (
    tenant_id     text        not null references tenant (id),
    id            text        not null check (length(id) = 26),
    name          text        not null check (length(name) between 1 and 64),
    generation    integer     not null check (generation >= 0),
    state         text        not null,
    key_label     text        not null,
    key_algorithm text        not null,
    spki_sha256   bytea       check (octet_length(spki_sha256) = 32),
    serial        bytea       check (octet_length(serial) = 16),
    certificate   bytea,
    failure       text,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    primary key (tenant_id, id),
    constraint ca_signer_generation unique (tenant_id, generation),
    constraint ca_signer_state check (state in ('PENDING', 'ACTIVE', 'RETIRED', 'REVOKED', 'FAILED')),
    constraint ca_signer_usable check (
        state not in ('ACTIVE', 'RETIRED')
        or (certificate is not null and spki_sha256 is not null and serial is not null))
);
-- The database itself keeps two nodes from making two current signers.
create unique index ca_signer_one_active on ca_signer (tenant_id) where state = 'ACTIVE';

-- Every certificate ever intended, recorded before the HSM is asked to sign. A
-- signer's own certificate has the signer's id as its cert_ref and no signer_id:
-- the installation's issuer CA signed it. The serial is unique over all issuers,
-- so that its status can be answered without knowing more.
create table ca_certificate (
    tenant_id     text        not null references tenant (id),
    cert_ref      text        not null check (length(cert_ref) = 26),
    serial        bytea       not null check (octet_length(serial) = 16),
    profile       text        not null,
    profile_hash  bytea       not null check (octet_length(profile_hash) = 32),
    signer_id     text,
    issuer_key_id bytea       not null,
    status        text        not null,
    user_id       text,
    client_id     text,
    spki_sha256   bytea       not null check (octet_length(spki_sha256) = 32),
    not_before    timestamptz not null,
    not_after     timestamptz not null,
    certificate   bytea,
    failure       text,
    requested_at  timestamptz not null,
    issued_at     timestamptz,
    primary key (tenant_id, cert_ref),
    foreign key (tenant_id, signer_id) references ca_signer (tenant_id, id),
    constraint ca_certificate_serial unique (serial),
    constraint ca_certificate_status check (status in ('REQUESTED', 'ISSUED', 'FAILED')),
    constraint ca_certificate_issued check (
        (status = 'ISSUED') = (certificate is not null and issued_at is not null))
);
-- "Was anything issued by this signer?", and the foreign key.
create index ca_certificate_signer on ca_certificate (tenant_id, signer_id);

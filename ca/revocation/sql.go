package revocation

const (
	// The first revocation of a certificate stands.
	sqlRecord = `insert into ca_revocation
  (tenant_id, issuer_key_id, serial, shard, cert_ref, sha256, reason, revoked_at, invalid_since, not_after, actor)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict do nothing`

	// Nothing is locked: a CRL that is there is out of date by the PENDING
	// tombstone alone, so that revocations do not queue for one row.
	sqlEnsureShard = `insert into ca_crl (issuer_key_id, shard, refresh_at) values ($1, $2, $3)
on conflict (issuer_key_id, shard) do nothing`

	// What was asked for is signed anew in the background; nobody is given the
	// old one, because readers look for a tombstone as well.
	sqlStale = `update ca_ocsp set refresh_at = $3
where issuer_key_id = $1 and serial = $2 and status = 'GOOD'`

	sqlEnsureShards = `insert into ca_crl (issuer_key_id, shard, refresh_at)
select n.issuer_key_id, n.shard, $3 from unnest($1::bytea[], $2::integer[]) as n (issuer_key_id, shard)
on conflict (issuer_key_id, shard) do update set refresh_at = excluded.refresh_at where ca_crl.refresh_at is null`

	// Two lists, for each of which there is an index: what has tombstones that
	// are on no CRL, and what comes to its end.
	sqlDue = `select c.issuer_key_id, c.shard, c.number from ca_crl c
join (select distinct issuer_key_id, shard from ca_revocation where state = 'PENDING') p
  on p.issuer_key_id = c.issuer_key_id and p.shard = c.shard
where c.refresh_at is not null and (c.claimed_until is null or c.claimed_until <= $1)
union
select c.issuer_key_id, c.shard, c.number from ca_crl c
where c.refresh_at <= $1 and (c.claimed_until is null or c.claimed_until <= $1)
limit $2`

	// The number is what the claim is made of: of two nodes one finds it changed.
	sqlClaim = `update ca_crl set number = number + 1, claimed_until = $4
where issuer_key_id = $1 and shard = $2 and number = $3 and (claimed_until is null or claimed_until <= $5)
returning number, this_update`

	sqlEntries = `select serial, reason, revoked_at, invalid_since, not_after, state = 'PENDING'
from ca_revocation where issuer_key_id = $1 and shard = $2 and state <> 'DROPPED'`

	sqlPublish = `update ca_crl set published_number = number, this_update = $4, next_update = $5, entries = $6, der = $7,
  refresh_at = $8, claimed_until = null
where issuer_key_id = $1 and shard = $2 and number = $3`

	sqlMove = `update ca_revocation set state = $3 where issuer_key_id = $1 and serial = any ($2::bytea[])`

	sqlYield = `update ca_crl set claimed_until = $4 where issuer_key_id = $1 and shard = $2 and number = $3`

	sqlPark = `update ca_crl set claimed_until = null, refresh_at = null
where issuer_key_id = $1 and shard = $2 and number = $3`

	sqlCRLHead = `select published_number, this_update, next_update, refresh_at is null from ca_crl where issuer_key_id = $1 and shard = $2`

	sqlCRL = `select published_number, this_update, next_update, refresh_at is null, der from ca_crl where issuer_key_id = $1 and shard = $2`

	// One row always: a response if there is one, and the tombstone if there is one.
	sqlAnswer = `select o.status, o.der, o.this_update, o.next_update, o.asked_at, r.reason, r.revoked_at, r.not_after
from (select 1) one
left join ca_ocsp o on o.issuer_key_id = $1 and o.serial = $2 and o.certid_hash = $3
left join ca_revocation r on r.issuer_key_id = $1 and r.serial = $2`

	sqlStoreAnswer = `insert into ca_ocsp
  (issuer_key_id, serial, certid_hash, status, this_update, next_update, der, asked_at, refresh_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (issuer_key_id, serial, certid_hash) do update
set status = excluded.status, this_update = excluded.this_update, next_update = excluded.next_update,
  der = excluded.der, refresh_at = excluded.refresh_at, claimed_until = null
where ca_ocsp.this_update <= excluded.this_update and (ca_ocsp.status = 'GOOD' or excluded.status = 'REVOKED')`

	sqlAsked = `update ca_ocsp set asked_at = $4
where issuer_key_id = $1 and serial = $2 and certid_hash = $3 and asked_at < $4`

	// Materialized, since a plan that ran the selection anew for each row would skip
	// what it has locked and pass the limit.
	sqlClaimAnswers = `with due as materialized (
  select issuer_key_id, serial, certid_hash from ca_ocsp
  where refresh_at <= $1 and asked_at > $3 and (claimed_until is null or claimed_until <= $1)
  order by refresh_at limit $4 for update skip locked)
update ca_ocsp set claimed_until = $2
where (issuer_key_id, serial, certid_hash) in (select issuer_key_id, serial, certid_hash from due)
returning issuer_key_id, serial, certid_hash`

	// What nobody asked for since it was signed is signed again when somebody does.
	sqlForgetAnswers = `delete from ca_ocsp where refresh_at <= $1 and asked_at <= $2`

	sqlForgetAnswer = `delete from ca_ocsp where issuer_key_id = $1 and serial = $2`

	sqlLook = `select
  (select count(*) from (select distinct r.issuer_key_id, r.shard from ca_revocation r
    join ca_crl c on c.issuer_key_id = r.issuer_key_id and c.shard = r.shard
    where r.state = 'PENDING' and c.refresh_at is not null) d),
  (select min(r.revoked_at) from ca_revocation r
    join ca_crl c on c.issuer_key_id = r.issuer_key_id and c.shard = r.shard
    where r.state = 'PENDING' and c.refresh_at is not null),
  count(*), count(*) filter (where next_update is null or next_update <= $1),
  min(this_update), coalesce(max(octet_length(der)), 0), coalesce(sum(octet_length(der)), 0)::bigint,
  coalesce(sum(entries), 0)::bigint
from ca_crl where refresh_at is not null`
)

// delegateSQL are the statements about the certificates of one duty's keys.
type delegateSQL struct{ newest, claim, store, key string }

func delegateStatements(table string) delegateSQL {
	return delegateSQL{
		newest: `select certificate, revision from ` + table + `
where issuer_key_id = $1 and certificate is not null order by revision desc limit 1`,

		// A claim is a row. There is none while a young one has no certificate, or when
		// a newer one than the caller has seen has; of two at once one hits the primary key.
		claim: `insert into ` + table + ` (issuer_key_id, revision, serial, created_at)
select $1::bytea, coalesce(max(revision), 0) + 1, $2::bytea, $3::timestamptz from ` + table + `
where issuer_key_id = $1::bytea
having count(*) filter (where certificate is null and created_at > $4::timestamptz
  or certificate is not null and revision > $5::integer) = 0
returning revision`,
		key: table + "_pkey",

		store: `update ` + table + ` set certificate = $3, not_before = $4, not_after = $5
where issuer_key_id = $1 and revision = $2 and certificate is null`,
	}
}

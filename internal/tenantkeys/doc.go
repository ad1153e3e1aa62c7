// Package tenantkeys seals event data and responses with a key per tenant and day, so that destroying the keys erases the
// tenant in every copy: streams, tables, free pages, write-ahead logs and backups.
//
// In come bytes to seal and the place where they belong: the tenant, the id of their event or delivery, and a word for
// what they are. The day is that of the id, a UUIDv7, so all that is made of one event uses one key.
//
// Out go sealed bytes: the byte 0xff, which no UTF-8 text begins with, a version byte, the day in four bytes, a random nonce of
// 12 bytes, and the bytes encrypted by AES-256-GCM. The place is authenticated: bytes moved to another event do not open.
// A key is random, made once by whichever process needs it first, and stored in the table tenant_keys, sealed with the
// key ring of internal/seal. NIST allows 2^32 random nonces per key, which is 49,000 a second of one tenant for a whole day.
//
// It promises that no bytes open once their keys are destroyed, and that no key is made for a deleted tenant. Other
// processes drop the keys of a deleted tenant from memory within two seconds.
//
// It depends on Postgres when a key is used for the first time in a process; those who ask at the same time share one query.
// While Postgres is away, keys in memory work on and others fail with the error of Postgres, to be retried. A key
// that is destroyed is ErrDestroyed; bytes that do not belong to their place are seal.ErrCorrupt. A nil *Keys seals
// nothing, and opens only contents that are not sealed.
//
// Run drops keys of deleted tenants until its context ends.
package tenantkeys

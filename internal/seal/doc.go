// Package seal encrypts the secrets that Postgres keeps.
//
// In come a key ring, FANFARE_SECRET_KEYS: "id:base64,id:base64", and the bytes to seal with what they are bound to, the
// name of their row.
//
// Out goes one version byte, the length of the key's id and the id, a random nonce of 24 bytes, and the bytes encrypted by
// XChaCha20-Poly1305. All of it is authenticated. Random nonces of that size may be drawn for ever.
//
// It promises that sealed bytes open only with a key of the ring and where they belong: bytes that were changed, cut or
// moved to another row are ErrCorrupt. To rotate, put a new key first and keep the old one until KeyID says that no row
// is sealed with it any more.
//
// It depends on nothing but the ring: a row whose key has left it is ErrUnknownKey, with the key's id. No error and no
// log holds a key or a secret.
//
// It starts nothing, so there is nothing to stop.
package seal

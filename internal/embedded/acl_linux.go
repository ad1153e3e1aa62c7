package embedded

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// The kernel's form of a POSIX access control list: a version, then entries of 8 bytes in the order of tag and id.
const (
	aclAttribute = "system.posix_acl_access"
	aclVersion   = 2
	aclNoID      = 0xffffffff

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20

	aclSearch = 1 // the x of rwx
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// letThrough lets one user pass through a directory, as `setfacl -m u:UID:x` does. It opens the directory to no other user.
// Where the volume has no such lists, every user may pass through: 0711 instead of 0700.
func letThrough(dir string, uid int) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	entries, err := readACL(dir, info.Mode())
	if err == nil {
		err = unix.Setxattr(dir, aclAttribute, encodeACL(permit(entries, uint32(uid))), 0)
	}
	if errors.Is(err, unix.ENOTSUP) {
		err = os.Chmod(dir, info.Mode().Perm()|0o001)
	}
	if err != nil {
		return fmt.Errorf("let user id %d pass through %s: %w", uid, dir, err)
	}
	return nil
}

// readACL returns the list of a directory; without one, that of its mode.
func readACL(dir string, mode os.FileMode) ([]aclEntry, error) {
	raw := make([]byte, 64<<10)
	n, err := unix.Getxattr(dir, aclAttribute, raw)
	if errors.Is(err, unix.ENODATA) {
		perm := uint16(mode.Perm())
		return []aclEntry{{aclUserObj, perm >> 6 & 7, aclNoID}, {aclGroupObj, perm >> 3 & 7, aclNoID}, {aclOther, perm & 7, aclNoID}}, nil
	}
	if err != nil {
		return nil, err
	}
	if n < 4 || (n-4)%8 != 0 || binary.LittleEndian.Uint32(raw) != aclVersion {
		return nil, errors.New("unknown form of access control list")
	}
	var entries []aclEntry
	for at := 4; at < n; at += 8 {
		entries = append(entries, aclEntry{
			tag: binary.LittleEndian.Uint16(raw[at:]), perm: binary.LittleEndian.Uint16(raw[at+2:]), id: binary.LittleEndian.Uint32(raw[at+4:]),
		})
	}
	return entries, nil
}

// permit adds the right to pass through for a user. A list with users needs a mask, which bounds what they get.
func permit(entries []aclEntry, uid uint32) []aclEntry {
	user, mask := -1, -1
	group := uint16(0)
	for i, e := range entries {
		switch {
		case e.tag == aclUser && e.id == uid:
			user = i
		case e.tag == aclMask:
			mask = i
		case e.tag == aclGroupObj:
			group = e.perm
		}
	}
	if user < 0 {
		entries = append(entries, aclEntry{tag: aclUser, id: uid})
		user = len(entries) - 1
	}
	if mask < 0 {
		entries = append(entries, aclEntry{tag: aclMask, perm: group, id: aclNoID})
		mask = len(entries) - 1
	}
	entries[user].perm |= aclSearch
	entries[mask].perm |= aclSearch
	slices.SortFunc(entries, func(a, b aclEntry) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id)) })
	return entries
}

func encodeACL(entries []aclEntry) []byte {
	raw := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		raw = binary.LittleEndian.AppendUint16(raw, e.tag)
		raw = binary.LittleEndian.AppendUint16(raw, e.perm)
		raw = binary.LittleEndian.AppendUint32(raw, e.id)
	}
	return raw
}

package egress

import (
	"net/netip"
	"slices"
)

// metadata says whether a cloud answers at this address with credentials or configuration of the machine.
// Azure's is a public address and in no registry, so it must be named; the others are named so that a
// wide allowed range does not open them by accident.
func metadata(addr netip.Addr) bool {
	switch addr {
	case netip.AddrFrom4([4]byte{169, 254, 169, 254}), // AWS, GCP, Azure, OpenStack, and most others
		netip.AddrFrom4([4]byte{169, 254, 170, 2}),                             // AWS ECS task credentials
		netip.AddrFrom4([4]byte{169, 254, 170, 23}),                            // AWS EKS pod identity
		netip.AddrFrom4([4]byte{168, 63, 129, 16}),                             // Azure WireServer
		netip.AddrFrom4([4]byte{100, 100, 100, 200}),                           // Alibaba Cloud
		netip.AddrFrom4([4]byte{192, 0, 0, 192}),                               // Oracle Cloud Classic
		netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 14: 0x02, 15: 0x54}), // AWS, fd00:ec2::254
		netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 15: 0x23}),           // AWS EKS pod identity, fd00:ec2::23
		netip.AddrFrom16([16]byte{0xfd, 0x20, 0x00, 0xce, 14: 0x02, 15: 0x54}): // GCP, fd20:ce::254
		return true
	}
	return false
}

// isatap says whether the interface identifier is that of RFC 5214: an IPv4 address after 0000:5efe or 0200:5efe.
// A host that runs ISATAP unwraps it and sends to the inner address.
func isatap(addr netip.Addr) bool {
	b := addr.As16()
	return (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

// lastFour is the IPv4 address in the last 32 bits.
func lastFour(addr netip.Addr) netip.Addr {
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// deniedPort says whether a well-known service that does not speak HTTP, or that must not be spoken to by strangers,
// listens on the port. The first rows are the "bad ports" of the WHATWG Fetch standard, which every browser
// refuses; the last ones are databases, brokers and control planes.
func deniedPort(port uint16) bool {
	_, found := slices.BinarySearch(deniedPorts[:], port)
	return found
}

var deniedPorts = [...]uint16{
	1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
	111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 445, 465, 512, 513, 514, 515, 526, 530, 531,
	532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1433, 1521, 1719, 1720, 1723, 2049, 2181, 2375,
	2379, 2380, 3306, 3389, 3659, 4045, 4190, 4222, 5060, 5061, 5432, 5672, 5900, 6000, 6222, 6379, 6566, 6665, 6666,
	6667, 6668, 6669, 6679, 6697, 9042, 9092, 9300, 10080, 10250, 11211, 27017,
}

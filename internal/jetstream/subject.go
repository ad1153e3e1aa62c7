package jetstream

import "strings"

// matches says whether a subject is one of a filter's, in which * stands for one token and a last > for one or more.
func matches(filter, subject string) bool {
	for {
		want, moreWanted, _ := strings.Cut(filter, ".")
		if want == ">" && moreWanted == "" {
			return subject != ""
		}
		have, moreHad, _ := strings.Cut(subject, ".")
		if have == "" || want != "*" && want != have {
			return false
		}
		if moreWanted == "" || moreHad == "" {
			return moreWanted == moreHad
		}
		filter, subject = moreWanted, moreHad
	}
}

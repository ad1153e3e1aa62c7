package event

// Fit says whether an event's data fits the JSON Schema of its type. An event that does not fit is an event only where the
// type's validation is warn.
type Fit uint8

// The verdicts.
const (
	// Unjudged: the type has no schema, or its validation is off.
	Unjudged Fit = iota
	Fits
	Misfits
	// Unjudgeable: judging took more steps than data of its size may take. It is not kept with the event.
	Unjudgeable
)

// The values of HeaderSchemaValid.
const (
	headerFits    = "1"
	headerMisfits = "0"
)

// header is the verdict as HeaderSchemaValid has it; empty for none.
func (f Fit) header() string {
	switch f {
	case Fits:
		return headerFits
	case Misfits:
		return headerMisfits
	}
	return ""
}

// fitOf reads HeaderSchemaValid.
func fitOf(header string) Fit {
	switch header {
	case headerFits:
		return Fits
	case headerMisfits:
		return Misfits
	}
	return Unjudged
}

// Valid is the verdict as the ledger and the API have it; null where there is none.
func (f Fit) Valid() *bool {
	switch f {
	case Fits:
		return new(true)
	case Misfits:
		return new(false)
	}
	return nil
}

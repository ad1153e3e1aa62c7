package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/fanfarehq/fanfare/internal/terminal"
)

// configCmd prints the settings.
type configCmd struct {
	Env  bool `xor:"format" help:"Print a file of variables to start from; unset ones are commented out."`
	JSON bool `xor:"format" name:"json" help:"Print JSON."`
}

// Run prints every setting. It does so too when one of them is invalid, and then fails naming it.
func (cmd configCmd) Run(c *terminal.Terminal) error {
	all := describe(newSettings().sections())
	switch {
	case cmd.JSON:
		e := json.NewEncoder(c.Out)
		e.SetIndent("", "  ")
		if err := e.Encode(all); err != nil {
			return err
		}
	case cmd.Env:
		printEnv(c, all)
	default:
		if err := printTable(c, all); err != nil {
			return err
		}
	}
	s, err := readSettings()
	if err != nil {
		return err
	}
	return s.refuseUnknown(func(variable, nearest string) {
		if nearest != "" {
			nearest = "; did you mean " + nearest + "?"
		}
		fmt.Fprintf(c.Err, "no setting is called %s%s\n", variable, nearest)
	})
}

// printTable is the settings in aligned columns.
func printTable(c *terminal.Terminal, all []setting) error {
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VARIABLE\tDEFAULT\tSET TO\tWHAT IT DOES")
	for _, s := range all {
		value := "-"
		if s.Set {
			value = s.Value
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, cmp.Or(s.Default, "(empty)"), value, s.Description)
	}
	return w.Flush()
}

// printEnv is the settings as a file for `docker run --env-file`, systemd or a shell. Secrets are not printed.
func printEnv(c *terminal.Terminal, all []setting) {
	section := ""
	for _, s := range all {
		if s.Section != section {
			section = s.Section
			fmt.Fprintf(c.Out, "\n## %s\n", section)
		}
		fmt.Fprintf(c.Out, "# %s\n", s.Description)
		if s.Set && s.Value != "(set)" {
			fmt.Fprintf(c.Out, "%s=%s\n", s.Name, s.Value)
		} else {
			fmt.Fprintf(c.Out, "#%s=%s\n", s.Name, s.Default)
		}
	}
}

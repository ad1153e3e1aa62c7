package main

import (
	"debug/buildinfo"
	"os"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bill writes the binary's bill of materials (CycloneDX): the modules that the linker put into it, with their checksums, as the
// binary itself records them.
func bill(of source, b binary, path string) error {
	info, err := buildinfo.ReadFile(b.Path)
	if err != nil {
		return err
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: of.Date.Format(time.RFC3339),
		Component: &cdx.Component{
			BOMRef: "fanfare", Type: cdx.ComponentTypeApplication, Name: "fanfare", Version: of.Version,
			PackageURL: "pkg:golang/" + info.Main.Path + "@v" + of.Version,
			Licenses:   &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
		},
	}
	components := []cdx.Component{{
		BOMRef: "go", Type: cdx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion, PackageURL: "pkg:golang/std@" + info.GoVersion,
	}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := "pkg:golang/" + m.Path + "@" + m.Version
		components = append(components, cdx.Component{
			BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: purl,
			Properties: &[]cdx.Property{{Name: "go:sum", Value: m.Sum}},
		})
	}
	bom.Components = &components
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return err
	}
	return f.Close()
}

package main

import (
	"bytes"
	"os"
	"text/template"
)

var brew = template.Must(template.New("").Parse(`class Fanfare < Formula
  desc "Turns a platform's events into webhooks"
  homepage "https://github.com/fanfarehq/fanfare"
  version "{{.Version}}"
  license "Apache-2.0"
{{range .Systems}}
  on_{{.Word}} do
{{- range .Archives}}
    on_{{.Word}} do
      url "https://github.com/fanfarehq/fanfare/releases/download/v{{$.Version}}/{{.File}}"
      sha256 "{{.Sum}}"
    end
{{- end}}
  end
{{end}}
  def install
    bin.install "fanfare"
  end

  service do
    run [opt_bin/"fanfare", "all"]
    keep_alive true
    working_dir var/"fanfare"
    environment_variables FANFARE_DATA_DIR: var/"fanfare"
    log_path var/"log/fanfare.log"
    error_log_path var/"log/fanfare.log"
  end

  def post_install
    (var/"fanfare").mkpath
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/fanfare version --json")
  end
end
`))

// formula writes Homebrew's, which names the archives of macOS and Linux with their checksums.
func formula(of source, archives map[platform]string, sums map[string]string, path string) error {
	type archived struct{ Word, File, Sum string }
	type system struct {
		Word     string
		Archives []archived
	}
	var systems []system
	for _, s := range []struct{ word, os string }{{"macos", "darwin"}, {"linux", "linux"}} {
		one := system{Word: s.word}
		for _, a := range []struct{ word, arch string }{{"arm", "arm64"}, {"intel", "amd64"}} {
			if file, ok := archives[platform{s.os, a.arch}]; ok {
				one.Archives = append(one.Archives, archived{a.word, file, sums[file]})
			}
		}
		if len(one.Archives) > 0 {
			systems = append(systems, one)
		}
	}
	var text bytes.Buffer
	err := brew.Execute(&text, map[string]any{"Version": of.Version, "Systems": systems})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}

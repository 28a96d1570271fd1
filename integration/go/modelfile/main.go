// Reads Modelfiles with Ollama's own parser: one JSON line in, one out.
//
// A line in is the base64 of a Modelfile. A line out has its commands, each with the reason why Ollama would refuse it
// (but for those that name files: they would be opened), or the error at which the parser stops. With the argument
// "dropped", it prints the ranges of characters that the parser drops instead, as pairs of code points.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/ollama/ollama/parser"
)

type command struct {
	Name    string `json:"name"`
	Args    string `json:"args"`
	Refused string `json:"refused,omitempty"`
}

type answer struct {
	Commands []command `json:"commands,omitempty"`
	Error    string    `json:"error,omitempty"`
}

func read(modelfile []byte) answer {
	parsed, err := parser.ParseFile(bytes.NewReader(modelfile))
	if err != nil {
		return answer{Error: err.Error()}
	}
	var commands []command
	for _, c := range parsed.Commands {
		commands = append(commands, command{c.Name, c.Args, refused(c)})
	}
	return answer{Commands: commands}
}

func refused(c parser.Command) string {
	if c.Name == "model" || c.Name == "draft" || c.Name == "adapter" {
		return ""
	}
	if _, err := (parser.Modelfile{Commands: []parser.Command{c}}).CreateRequest(""); err != nil {
		return err.Error()
	}
	return ""
}

func dropped() [][2]rune {
	var ranges [][2]rune
	for r := rune(0); r <= 0x10ffff; r++ {
		if strconv.IsPrint(r) {
			continue
		}
		if n := len(ranges); n > 0 && ranges[n-1][1] == r-1 {
			ranges[n-1][1] = r
		} else {
			ranges = append(ranges, [2]rune{r, r})
		}
	}
	return ranges
}

func main() {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	os.Stdout, _ = os.Create(os.DevNull) // where the parser prints its warnings

	if len(os.Args) > 1 && os.Args[1] == "dropped" {
		_ = out.Encode(dropped())
		return
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var modelfile []byte
		if err := json.Unmarshal(in.Bytes(), &modelfile); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = out.Encode(read(modelfile))
	}
}

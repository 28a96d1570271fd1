// Reads answers with Ollama's own packages: one JSON line in, one out.
//
// A line in has what a model says, the prompt that it answers, the tools that it was given, and whether it is to think;
// and the name of a PARSER, or else a TEMPLATE, by which the server reads answers then. A line out has the message that
// the server makes of it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/model/parsers"
	"github.com/ollama/ollama/template"
	"github.com/ollama/ollama/thinking"
	"github.com/ollama/ollama/tools"
)

type question struct {
	Parser   string          `json:"parser"`
	Template string          `json:"template"`
	Messages []api.Message   `json:"messages"`
	Tools    api.Tools       `json:"tools"`
	Think    *api.ThinkValue `json:"think"`
	Prompt   string          `json:"prompt"`
	Pieces   []string        `json:"pieces"`
}

type answer struct {
	Content  string         `json:"content"`
	Thinking string         `json:"thinking"`
	Calls    []api.ToolCall `json:"calls"`
	Error    string         `json:"error,omitempty"`
}

// parsed is what a built-in parser makes of it (server/routes.go, ChatHandler).
func parsed(q question) (a answer) {
	p := parsers.ParserForName(q.Parser)
	if p == nil {
		return answer{Error: "unknown parser"}
	}
	p.Init(q.Tools, &q.Messages[len(q.Messages)-1], q.Think)
	for i, piece := range q.Pieces {
		content, thought, calls, err := p.Add(piece, i == len(q.Pieces)-1)
		if err != nil {
			a.Error = err.Error()
			return a
		}
		a.Content += content
		a.Thinking += thought
		a.Calls = append(a.Calls, calls...)
	}
	return a
}

// inferred is what the server makes of it by a TEMPLATE alone.
func inferred(q question) (a answer) {
	t, err := template.Parse(q.Template)
	if err != nil {
		return answer{Error: err.Error()}
	}
	var thinks *thinking.Parser
	opening, closing := thinking.InferTags(t.Template)
	if q.Think != nil && q.Think.Bool() && opening != "" && closing != "" {
		thinks = &thinking.Parser{OpeningTag: opening, ClosingTag: closing}
		if strings.HasSuffix(strings.TrimSpace(q.Prompt), opening) {
			thinks.AddContent(opening)
		}
	}
	var calls *tools.Parser
	if len(q.Tools) > 0 {
		calls = tools.NewParser(t.Template, q.Tools)
	}
	for i, piece := range q.Pieces {
		thought, content := "", piece
		if thinks != nil {
			thought, content = thinks.AddContent(piece)
		}
		a.Thinking += thought
		if calls == nil {
			a.Content += content
			continue
		}
		found, rest := calls.Add(content)
		a.Content += rest
		a.Calls = append(a.Calls, found...)
		if rest == "" && len(found) == 0 && i == len(q.Pieces)-1 {
			a.Content += calls.Content()
		}
	}
	return a
}

func read(q question) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a.Error = fmt.Sprint("panic: ", r)
		}
	}()
	if q.Parser != "" {
		return parsed(q)
	}
	return inferred(q)
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = out.Encode(read(q))
	}
}

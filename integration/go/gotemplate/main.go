// Renders templates with Ollama's own package: one JSON line in, one out.
//
// A line in has a template, and values to execute it with as they are, or a chat as Ollama's server has one. A line out
// has the text as bytes, or the error; and the variables that Ollama finds.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/template"
)

type chat struct {
	Messages []api.Message   `json:"messages"`
	Tools    api.Tools       `json:"tools"`
	Think    *api.ThinkValue `json:"think"`
	Prompt   string          `json:"prompt"`
	Suffix   string          `json:"suffix"`
}

type question struct {
	Template string          `json:"template"`
	Values   map[string]any  `json:"values"`
	Chat     json.RawMessage `json:"chat"`
}

type answer struct {
	Text  []byte   `json:"text"`
	Error string   `json:"error,omitempty"`
	Vars  []string `json:"vars,omitempty"`
}

// tagged says in the contents where images are, as the server does before it renders a chat.
func tagged(messages []api.Message) []api.Message {
	seen := 0
	for i, m := range messages {
		before, content := "", m.Content
		for range m.Images {
			tag := fmt.Sprintf("[img-%d]", seen)
			seen++
			if strings.Contains(content, "[img]") {
				content = strings.Replace(content, "[img]", tag, 1)
			} else {
				before += tag
			}
		}
		messages[i].Content = before + content
	}
	return messages
}

func render(q question) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a.Error = fmt.Sprint("panic: ", r)
		}
	}()
	parsed, err := template.Parse(q.Template)
	if err != nil {
		return answer{Error: err.Error()}
	}
	a.Vars, _ = parsed.Vars()
	var out bytes.Buffer
	if q.Chat == nil {
		err = parsed.Template.Execute(&out, q.Values)
	} else {
		var c chat
		if err = json.Unmarshal(q.Chat, &c); err != nil {
			a.Error = "request: " + err.Error()
			return a
		}
		v := template.Values{Messages: tagged(c.Messages), Tools: c.Tools, Prompt: c.Prompt, Suffix: c.Suffix}
		if c.Think != nil {
			v.Think, v.ThinkLevel, v.IsThinkSet = c.Think.Bool(), c.Think.String(), true
		}
		err = parsed.Execute(&out, v)
	}
	a.Text = out.Bytes()
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// limited gives up on templates that take too long, which then go on in the background.
func limited(q question) answer {
	done := make(chan answer, 1)
	go func() { done <- render(q) }()
	select {
	case a := <-done:
		return a
	case <-time.After(2 * time.Second):
		return answer{Error: "timeout"}
	}
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
		_ = out.Encode(limited(q))
	}
}

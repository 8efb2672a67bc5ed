package replicas_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// provider is an OpenAI-compatible provider that answers a question with words made from it, and
// counts how often it was asked.
type provider struct {
	server *httptest.Server
	pace   time.Duration
	words  int

	topic string       // that questions of an audience begin with, and so every word of their answers
	conns atomic.Int32 // that were made to it

	mu     sync.Mutex
	calls  map[string]int
	gone   map[string]chan struct{}   // closed when the request was cancelled
	begin  map[string]chan struct{}   // closed when it came in
	silent bool                       // it takes requests and does not answer
	steps  map[string]<-chan struct{} // questions whose next word waits for a step
}

func startProvider(t *testing.T, words int, pace time.Duration) *provider {
	p := &provider{
		pace: pace, words: words, calls: map[string]int{}, gone: map[string]chan struct{}{},
		begin: map[string]chan struct{}{}, steps: map[string]<-chan struct{}{},
	}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			p.conns.Add(1)
		}
	}
	p.server.Start()
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// answer is the whole answer to a question.
func (p *provider) answer(question string) string {
	var b strings.Builder
	for i := range p.words {
		b.WriteString(word(question, i))
	}
	return b.String()
}

func word(question string, i int) string { return fmt.Sprintf("%s-%d 词 ", question, i) }

func (p *provider) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Messages []struct{ Content string }
	}
	_ = json.NewDecoder(req.Body).Decode(&body)
	question := body.Messages[0].Content
	p.mu.Lock()
	p.calls[question]++
	gone, begin, silent := p.signal(p.gone, question), p.signal(p.begin, question), p.silent
	step := p.steps[question]
	p.mu.Unlock()
	p.note(begin)
	defer func() {
		if req.Context().Err() != nil {
			p.note(gone)
		}
	}()
	if silent {
		<-req.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range p.words {
		if !p.wait(req.Context(), i, step) {
			return
		}
		text, _ := json.Marshal(word(question, i))
		fmt.Fprintf(w, "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%s}}]}\n\n", text)
		w.(http.Flusher).Flush()
	}
	fmt.Fprint(w, "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"+
		"data: [DONE]\n\n")
	w.(http.Flusher).Flush() // the end of the body comes behind it, as with real ones
}

// wait says whether the word i is to be said, when its time has come.
func (p *provider) wait(ctx context.Context, i int, step <-chan struct{}) bool {
	var turn <-chan time.Time
	switch {
	case step == nil:
		turn = time.After(p.pace)
	case i == 0:
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-turn:
	case <-step:
	}
	return true
}

// stepwise has the words of a question wait for steps, the first excepted.
func (p *provider) stepwise(question string, steps <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps[question] = steps
}

// note closes a channel, also when a question was asked again.
func (p *provider) note(c chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

// signal gives the channel of a question. The caller holds mu.
func (p *provider) signal(of map[string]chan struct{}, question string) chan struct{} {
	if of[question] == nil {
		of[question] = make(chan struct{})
	}
	return of[question]
}

func (p *provider) wentAway(question string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signal(p.gone, question)
}

func (p *provider) began(question string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signal(p.begin, question)
}

func (p *provider) asked(question string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[question]
}

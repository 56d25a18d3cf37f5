// Package control lets a test drive a Go peer over HTTP: make it call, make it complete, ask what it was told.
//
// What a peer is told and what it tells is the same for every version of the Go implementation.
package control

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
)

// Link is a link, as text.
type Link struct {
	URL  string `json:"url"`
	Type string `json:"type"`
}

// Call asks the peer's client to start an operation, or to cancel one if there is a token.
type Call struct {
	BaseURL        string            `json:"base_url"`
	Service        string            `json:"service"`
	Operation      string            `json:"operation"`
	Token          string            `json:"token"`
	Content        []byte            `json:"content"`
	ContentType    string            `json:"content_type"`
	RequestID      string            `json:"request_id"`
	CallbackURL    string            `json:"callback_url"`
	CallbackHeader map[string]string `json:"callback_header"`
	Header         map[string]string `json:"header"`
	Links          []Link            `json:"links"`
	TimeoutMS      int               `json:"timeout_ms"`
}

// Outcome tells how a call or a completion ended.
type Outcome struct {
	// One of succeeded, started, canceled, completed, operation_error, handler_error, error.
	Kind        string          `json:"kind"`
	Content     []byte          `json:"content"`
	ContentType string          `json:"content_type"`
	Token       string          `json:"token"`
	Links       []Link          `json:"links"`
	State       string          `json:"state"`
	Type        string          `json:"type"`
	Retryable   bool            `json:"retryable"`
	Override    *bool           `json:"override"`
	Message     string          `json:"message"`
	Details     json.RawMessage `json:"details"`
	Cause       *Outcome        `json:"cause"`
}

// Completion asks the peer to complete an operation.
type Completion struct {
	URL         string            `json:"url"`
	Header      map[string]string `json:"header"`
	Token       string            `json:"token"`
	StartTimeMS int64             `json:"start_time_ms"`
	CloseTimeMS int64             `json:"close_time_ms"`
	Links       []Link            `json:"links"`
	State       string            `json:"state"`
	Message     string            `json:"message"`
	Details     json.RawMessage   `json:"details"`
	Content     []byte            `json:"content"`
	ContentType string            `json:"content_type"`
}

// Received is a completion that the peer took.
type Received struct {
	State       string            `json:"state"`
	Token       string            `json:"token"`
	StartTimeMS int64             `json:"start_time_ms"`
	CloseTimeMS int64             `json:"close_time_ms"`
	Links       []Link            `json:"links"`
	Header      map[string]string `json:"header"`
	Content     []byte            `json:"content"`
	ContentType string            `json:"content_type"`
	Error       *Outcome          `json:"error"`
}

// Payment is the input of the peer's operation "process".
type Payment struct {
	Order string `json:"order"`
	Cents int    `json:"cents"`
}

// Receipt is its output.
type Receipt struct {
	Order   string `json:"order"`
	Charged int    `json:"charged"`
}

// Wanted says how the peer's operation "end" is to end.
type Wanted struct {
	Kind      string          `json:"kind"`
	Type      string          `json:"type"`
	Retryable *bool           `json:"retryable"`
	Message   string          `json:"message"`
	Details   json.RawMessage `json:"details"`
}

// Seen is what the peer's handler saw of a request; its operation "seen" answers with it.
type Seen struct {
	Service        string            `json:"service"`
	Operation      string            `json:"operation"`
	Token          string            `json:"token"`
	RequestID      string            `json:"request_id"`
	CallbackURL    string            `json:"callback_url"`
	CallbackHeader map[string]string `json:"callback_header"`
	Header         map[string]string `json:"header"`
	Links          []Link            `json:"links"`
	HasDeadline    bool              `json:"has_deadline"`
}

// Log keeps what a peer was told until the test asks.
type Log struct {
	mu       sync.Mutex
	received []Received
	cancels  []Seen
}

// Receive notes a completion.
func (l *Log) Receive(received Received) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received = append(l.received, received)
}

// Cancel notes a request to cancel.
func (l *Log) Cancel(seen Seen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancels = append(l.cancels, seen)
}

func (l *Log) take(writer http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	told := map[string]any{"completions": l.received, "cancels": l.cancels}
	l.received, l.cancels = nil, nil
	if err := json.NewEncoder(writer).Encode(told); err != nil {
		panic(err)
	}
}

// Peer is one version of the Go implementation.
type Peer struct {
	Services    http.Handler
	Completions http.Handler
	Call        func(*http.Request, Call) Outcome
	Complete    func(*http.Request, Completion) Outcome
}

// Serve serves a peer on a free port until standard input ends, and writes its URL to standard output.
func Serve(peer Peer, log *Log) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /control/call", func(writer http.ResponseWriter, request *http.Request) {
		answer(writer, request, peer.Call)
	})
	mux.HandleFunc("POST /control/complete", func(writer http.ResponseWriter, request *http.Request) {
		answer(writer, request, peer.Complete)
	})
	mux.HandleFunc("GET /control/told", log.take)
	mux.Handle("/callback/", peer.Completions)
	services := http.StripPrefix("/nexus", peer.Services)
	root := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		// Not through the mux, which would clean paths.
		if len(request.URL.Path) > 7 && request.URL.Path[:7] == "/nexus/" {
			services.ServeHTTP(writer, request)
			return
		}
		mux.ServeHTTP(writer, request)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	panic(http.Serve(listener, root))
}

func answer[Asked any](writer http.ResponseWriter, request *http.Request, do func(*http.Request, Asked) Outcome) {
	var asked Asked
	if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	if err := json.NewEncoder(writer).Encode(do(request, asked)); err != nil {
		panic(err)
	}
}

package handler

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"

	"github.com/websopy/relay/internal/chat"
)

// Model is one that requests may name.
type Model struct {
	ID      string
	OwnedBy string // the kind of its provider
}

// modelObject is a model as OpenAI's API lists it. When it was made is not known.
type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (m Model) object() modelObject {
	return modelObject{ID: m.ID, Object: "model", OwnedBy: m.OwnedBy}
}

// listModels answers with the models whose exact names are known, in OpenAI's shape.
func (r *Relay) listModels(w http.ResponseWriter, req *http.Request) {
	list := struct {
		Object string        `json:"object"`
		Data   []modelObject `json:"data"`
	}{"list", make([]modelObject, 0, len(r.Models))}
	for _, m := range r.Models {
		list.Data = append(list.Data, m.object())
	}
	r.json(w, req, list)
}

var errNoModel = &chat.Error{Code: chat.NotFound, Message: "there is no model of this name"}

// oneModel answers with one of them. Names have slashes, plain or as %2F.
func (r *Relay) oneModel(w http.ResponseWriter, req *http.Request) {
	id, err := url.PathUnescape(chi.URLParam(req, "*"))
	if err != nil {
		id = "" // no model's
	}
	for _, m := range r.Models {
		if m.ID == id {
			r.json(w, req, m.object())
			return
		}
	}
	r.fail(w, req, errNoModel)
}

func (r *Relay) json(w http.ResponseWriter, req *http.Request, v any) {
	body, err := json.Marshal(v)
	if err != nil { // there is nothing in it that can't be
		r.fail(w, req, chat.AsError(err))
		return
	}
	r.body(w, req, http.StatusOK, "application/json; charset=utf-8", append(body, '\n'))
}

/* Looks into L2, compiled: the rules of tiercache/_core/looks.py, and no other.

   As with entries, what is not of the usual form is left to those rules in Python.  */

#include "_compiled.h"
#include <string.h>

/* ---- numbers */

/* A reply that is one whole number, perhaps negative; whether it is. */
static int
is_whole(PyObject *reply, long long *number)
{
    const char *at, *end;
    int negative;

    if (!PyBytes_CheckExact(reply))
        return 0;
    at = PyBytes_AS_STRING(reply);
    end = at + PyBytes_GET_SIZE(reply);
    negative = at < end && *at == '-';
    at += negative;
    *number = digits(&at, end);
    if (*number < 0 || at != end)
        return 0;
    if (negative)
        *number = -*number;
    return 1;
}

int
is_small(PyObject *object, long long *number)
{
    int overflow;

    if (object == NULL || !PyLong_CheckExact(object))
        return 0;
    *number = PyLong_AsLongLongAndOverflow(object, &overflow);
    return !overflow;
}

/* ---- Looked */

typedef struct {
    PyObject_HEAD
    long long head, epoch, floor, now_ms;
    PyObject *versions, *entries;
} Looked;

/* Whether no tag of an entry has a version above its *token*; -1 where a version has an odd form. */
static int
is_current(Looked *self, PyObject *tags, long long token)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tags); i++) {
        PyObject *version = PyDict_GetItemWithError(self->versions, PyTuple_GET_ITEM(tags, i));
        long long number;
        if (version == NULL)
            return PyErr_Occurred() ? -1 : 0; /* (model: Valid) one not asked for has any */
        if (version == Py_None)
            continue;
        if (!is_small(version, &number))
            return -1;
        if (number > token)
            return 0;
    }
    return 1;
}

/* Whether there is a good entry of *key*, for *left* milliseconds: 1, 0, and -1 where its form is not usual.
   *stored* owns what it has where there is. Errors may stand, of memory or of no importance.  */
static int
judge(State *state, Looked *self, PyObject *key, PyObject *likely, Stored *stored, long long *left)
{
    PyObject *raw = PyUnicode_CheckExact(key) ? PyDict_GetItemWithError(self->entries, key) : NULL;
    int good;

    if (raw == Py_None)
        return 0;
    if (raw == NULL || state->stored_type == NULL)
        return -1;
    Py_INCREF(raw);
    good = is_stored(state, raw, key, likely, stored);
    Py_DECREF(raw);
    if (!good)
        return -1;
    *left = stored->expiry_ms - self->now_ms;
    if (stored->epoch != self->epoch || stored->token < self->floor || stored->token > self->head || *left <= 0)
        good = 0;
    else
        good = is_current(self, stored->tags, stored->token);
    if (good != 1) {
        Py_CLEAR(stored->tags);
        Py_CLEAR(stored->payload);
    }
    return good;
}

int
is_good(State *state, PyObject *looked, PyObject *key, PyObject *likely, Stored *stored, double *left,
        long long *head)
{
    long long ms;
    Looked *self = (Looked *)looked;

    if (!Py_IS_TYPE(looked, state->looked_type) || judge(state, self, key, likely, stored, &ms) != 1) {
        PyErr_Clear(); /* whoever judges it then meets it, too */
        return 0;
    }
    *left = (double)ms / 1000;
    *head = self->head;
    return 1;
}

static PyObject *
looked_good(Looked *self, PyObject *key)
{
    State *state = PyType_GetModuleState(Py_TYPE(self)); /* there are no subclasses */
    PyObject *entry;
    Stored stored;
    long long left;
    int good = judge(state, self, key, NULL, &stored, &left);

    if (good < 0)
        return in_python(state->good_in_python, (PyObject *)self, key);
    if (good == 0)
        Py_RETURN_NONE;
    entry = stored_entry(state, &stored);
    return entry == NULL ? NULL : Py_BuildValue("(Nd)", entry, (double)left / 1000);
}

static void
looked_dealloc(Looked *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(self->versions);
    Py_XDECREF(self->entries);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef looked_methods[] = {
    {"good", (PyCFunction)looked_good, METH_O, "good(key): as that of tiercache._core.looks.Looked."},
    {NULL},
};

static PyMemberDef looked_members[] = {
    {"head", T_LONGLONG, offsetof(Looked, head), READONLY, NULL},
    {"epoch", T_LONGLONG, offsetof(Looked, epoch), READONLY, NULL},
    {"floor", T_LONGLONG, offsetof(Looked, floor), READONLY, NULL},
    {"versions", T_OBJECT_EX, offsetof(Looked, versions), READONLY, NULL},
    {"entries", T_OBJECT_EX, offsetof(Looked, entries), READONLY, NULL},
    {"now_ms", T_LONGLONG, offsetof(Looked, now_ms), READONLY, NULL},
    {NULL},
};

static PyType_Slot looked_slots[] = {
    {Py_tp_doc, "What a look found, where that is of use; made by looked()."},
    {Py_tp_dealloc, looked_dealloc},
    {Py_tp_methods, looked_methods},
    {Py_tp_members, looked_members},
    {0, NULL},
};

static PyType_Spec looked_spec = {
    .name = "tiercache._compiled.Looked",
    .basicsize = sizeof(Looked),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = looked_slots,
};

/* ---- looks */

typedef struct {
    long long epoch, seen;
    PyObject *keys, *tags; /* borrowed */
} Asked;

static int
is_look(PyObject *look, Asked *asked)
{
    if (!PyTuple_Check(look) || PyTuple_GET_SIZE(look) != 4)
        return 0;
    asked->keys = PyTuple_GET_ITEM(look, 2);
    asked->tags = PyTuple_GET_ITEM(look, 3);
    return is_small(PyTuple_GET_ITEM(look, 0), &asked->epoch)
        && is_small(PyTuple_GET_ITEM(look, 1), &asked->seen) && PyTuple_CheckExact(asked->keys)
        && PyTuple_CheckExact(asked->tags);
}

static int
is_list_of(PyObject *reply, Py_ssize_t number)
{
    return PyList_CheckExact(reply) && PyList_GET_SIZE(reply) == number;
}

static int /* whether all is filed by tag; there may be an error where one has an odd form */
file_versions(PyObject *versions, PyObject *tags, PyObject *scores)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tags); i++) {
        PyObject *tag = PyTuple_GET_ITEM(tags, i), *score = PyList_GET_ITEM(scores, 3 + i), *version = NULL;
        long long number;
        int is_filed;
        if (score == Py_None)
            version = Py_NewRef(Py_None);
        else if (is_whole(score, &number))
            version = PyLong_FromLongLong(number);
        is_filed = version != NULL && PyUnicode_CheckExact(tag) && PyDict_SetItem(versions, tag, version) == 0;
        Py_XDECREF(version);
        if (!is_filed)
            return 0;
    }
    return 1;
}

static int /* by key; likewise */
file_entries(PyObject *entries, PyObject *keys, PyObject *found)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
        PyObject *key = PyTuple_GET_ITEM(keys, i), *raw = PyList_GET_ITEM(found, i);
        if (!(raw == Py_None || PyBytes_CheckExact(raw)) || !PyUnicode_CheckExact(key)
            || PyDict_SetItem(entries, key, raw) < 0)
            return 0;
    }
    return 1;
}

/* Whether *replies* to *look* are usual, and of use. No foreign code runs in it. */
static int
fill_looked(Looked *self, PyObject *look, PyObject *replies)
{
    PyObject *scores, *found, *time, *after;
    Asked asked;
    long long epoch, head, floor, epoch_after, head_after, seconds, micros;

    if (!is_look(look, &asked) || !is_list_of(replies, 4))
        return 0;
    scores = PyList_GET_ITEM(replies, 0);
    found = PyList_GET_ITEM(replies, 1);
    time = PyList_GET_ITEM(replies, 2);
    after = PyList_GET_ITEM(replies, 3);
    if (!is_list_of(scores, 3 + PyTuple_GET_SIZE(asked.tags))
        || !is_list_of(found, PyTuple_GET_SIZE(asked.keys)) || !is_list_of(time, 2) || !is_list_of(after, 2)
        || !is_whole(PyList_GET_ITEM(scores, 0), &epoch) || !is_whole(PyList_GET_ITEM(scores, 1), &head)
        || !is_whole(PyList_GET_ITEM(scores, 2), &floor)
        || !is_whole(PyList_GET_ITEM(after, 0), &epoch_after)
        || !is_whole(PyList_GET_ITEM(after, 1), &head_after)
        || !is_whole(PyList_GET_ITEM(time, 0), &seconds) || !is_whole(PyList_GET_ITEM(time, 1), &micros)
        || seconds < 0 || micros < 0)
        return 0;
    epoch = -epoch, head = -head, floor = -floor, epoch_after = -epoch_after, head_after = -head_after;
    if (epoch != epoch_after || epoch != asked.epoch || head < asked.seen || head > head_after)
        return 0;
    self->head = head;
    self->epoch = epoch;
    self->floor = floor;
    self->now_ms = seconds * 1000 + micros / 1000;
    return file_versions(self->versions, asked.tags, scores) && file_entries(self->entries, asked.keys, found);
}

static PyObject *
looked(PyObject *module, PyObject *const *arguments, Py_ssize_t number)
{
    State *state = PyModule_GetState(module);
    Looked *self;

    if (number != 2) {
        PyErr_Format(PyExc_TypeError, "looked() takes 2 arguments, not %zd", number);
        return NULL;
    }
    if (state->looked_type == NULL)
        Py_RETURN_NONE;
    self = (Looked *)state->looked_type->tp_alloc(state->looked_type, 0);
    if (self == NULL)
        return NULL;
    /* Before anything is taken from the lists: what makes a dict may start the garbage collector, and that
       the __del__ of somebody who has them. */
    self->versions = PyDict_New();
    self->entries = PyDict_New();
    if (self->versions == NULL || self->entries == NULL || !fill_looked(self, arguments[0], arguments[1])) {
        Py_DECREF(self);
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return (PyObject *)self;
}

/* ---- packing */

typedef struct {
    char *start, *at, *end;
    char first[1024]; /* where it starts: enough for a look for one key */
} Buffer;

static int /* whether there is room for *size* bytes more; no error is set where there is none */
has_room(Buffer *buffer, Py_ssize_t size)
{
    Py_ssize_t used = buffer->at - buffer->start;
    char *larger;

    if (size <= buffer->end - buffer->at)
        return 1;
    if (size > PY_SSIZE_T_MAX / 2 - used)
        return 0;
    larger = PyMem_Realloc(buffer->start == buffer->first ? NULL : buffer->start, (used + size) * 2);
    if (larger == NULL)
        return 0;
    if (buffer->start == buffer->first)
        memcpy(larger, buffer->first, used);
    buffer->start = larger;
    buffer->at = larger + used;
    buffer->end = larger + (used + size) * 2;
    return 1;
}

static int
add(Buffer *buffer, const char *bytes, Py_ssize_t size)
{
    if (!has_room(buffer, size))
        return 0;
    memcpy(buffer->at, bytes, size);
    buffer->at += size;
    return 1;
}

static int /* a line with a number, such as opens a command and each of its arguments */
add_line(Buffer *buffer, char kind, Py_ssize_t number)
{
    char line[MOST_DIGITS + 3], *end = line + sizeof line, *at;

    memcpy(end - 2, "\r\n", 2);
    at = decimal(end - 2, number);
    *--at = kind;
    return add(buffer, at, end - at);
}

static int /* an argument: *prefix* and *text* */
add_text(Buffer *buffer, const char *prefix, Py_ssize_t prefix_size, PyObject *text)
{
    Py_ssize_t size;
    PyObject *owner;
    const char *bytes = utf8(text, &size, &owner);
    int added = bytes != NULL && add_line(buffer, '$', prefix_size + size) && add(buffer, prefix, prefix_size)
             && add(buffer, bytes, size) && add(buffer, "\r\n", 2);

    Py_XDECREF(owner);
    return added;
}

static int
add_texts(Buffer *buffer, const char *prefix, Py_ssize_t prefix_size, PyObject *texts)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(texts); i++)
        if (!add_text(buffer, prefix, prefix_size, PyTuple_GET_ITEM(texts, i)))
            return 0;
    return 1;
}

#define ADD_FIXED(buffer, text) add(buffer, text, sizeof(text) - 1)

static PyObject *
pack_look(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *look, *state_name, *ending, *packed = NULL;
    const char *prefix;
    Py_ssize_t prefix_size;
    Buffer buffer;
    Asked asked;

    if (!PyArg_ParseTuple(args, "OUs#S:pack_look", &look, &state_name, &prefix, &prefix_size, &ending))
        return NULL;
    if (!is_look(look, &asked))
        Py_RETURN_NONE;
    buffer.start = buffer.at = buffer.first;
    buffer.end = buffer.first + sizeof buffer.first;
    if (add_line(&buffer, '*', 5 + PyTuple_GET_SIZE(asked.tags)) && ADD_FIXED(&buffer, "$7\r\nZMSCORE\r\n")
        && add_text(&buffer, "", 0, state_name)
        && ADD_FIXED(&buffer, "$2\r\n\1e\r\n$2\r\n\1s\r\n$2\r\n\1f\r\n")
        && add_texts(&buffer, "t:", 2, asked.tags)
        && add_line(&buffer, '*', 1 + PyTuple_GET_SIZE(asked.keys)) && ADD_FIXED(&buffer, "$4\r\nMGET\r\n")
        && add_texts(&buffer, prefix, prefix_size, asked.keys)
        && add(&buffer, PyBytes_AS_STRING(ending), PyBytes_GET_SIZE(ending)))
        packed = PyBytes_FromStringAndSize(buffer.start, buffer.at - buffer.start);
    else
        packed = Py_NewRef(Py_None);
    if (buffer.start != buffer.first)
        PyMem_Free(buffer.start);
    return packed;
}

/* ---- of the module */

static PyObject *
use_looks(PyObject *module, PyObject *good)
{
    State *state = PyModule_GetState(module);

    Py_XSETREF(state->good_in_python, Py_NewRef(good));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"use_looks", use_looks, METH_O, "use_looks(good): Looked.good in Python, to ask likewise."},
    {"looked", (PyCFunction)(void (*)(void))looked, METH_FASTCALL,
     "looked(look, replies): as look.parse(replies); None where that must be asked."},
    {"pack_look", pack_look, METH_VARARGS,
     "pack_look(look, state, entries, ending): the bytes of look.plain(), of which the last commands are\n"
     "*ending*; None where the client must pack them. *state*, *entries*: the name, and what names begin with."},
    {NULL},
};

int
add_looks(PyObject *module, State *state)
{
    state->looked_type = added_type(module, &looked_spec);
    return state->looked_type == NULL ? -1 : PyModule_AddFunctions(module, methods);
}

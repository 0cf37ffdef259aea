/* Entries of L2 taken apart, compiled: the rules of tiercache/_core/records.py, and no other.

   Only what is of the usual form is answered here: decimal digits, text that has a form in UTF-8,
   the types that the client makes of replies. All else is asked of those rules in Python, with its
   errors too; so bytes from outside never decide here what they would not decide there.  */

#include "_compiled.h"
#include <string.h>

#define MOST_TAGS 129 /* MAX_ENTRY_TAGS of records.py */
#define MOST_COPIED 1024
#define LARGEST (1LL << 53) /* up to here a score is exact */

/* ---- numbers and text */

long long
digits(const char **at, const char *end)
{
    const char *from = *at;
    long long number = 0;

    while (*at < end && **at >= '0' && **at <= '9' && *at - from < 17)
        number = number * 10 + (*(*at)++ - '0');
    return *at == from || *at - from > 16 || number > LARGEST ? -1 : number;
}

char *
decimal(char *end, long long number)
{
    unsigned long long left = number < 0 ? -(unsigned long long)number : (unsigned long long)number;

    do
        *--end = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (number < 0)
        *--end = '-';
    return end;
}

const char *
utf8(PyObject *text, Py_ssize_t *size, PyObject **owner)
{
    *owner = NULL;
    if (!PyUnicode_CheckExact(text))
        return NULL;
    if (PyUnicode_IS_COMPACT_ASCII(text)) {
        *size = PyUnicode_GET_LENGTH(text);
        return PyUnicode_DATA(text);
    }
    *owner = PyUnicode_AsUTF8String(text);
    if (*owner == NULL) {
        PyErr_Clear();
        return NULL;
    }
    *size = PyBytes_GET_SIZE(*owner);
    return PyBytes_AS_STRING(*owner);
}

/* ---- entries */

static PyObject *
crc(State *state, PyObject *bytes, PyObject *before)
{
    PyObject *arguments[] = {bytes, before};

    return PyObject_Vectorcall(state->crc32, arguments, before == NULL ? 1 : 2, NULL);
}

/* The check of records.py, as a number; -1 with or without an error where it cannot be made. */
static long long
check_of(State *state, PyObject *key, const char *named, Py_ssize_t size, PyObject *payload)
{
    Py_ssize_t key_size, length = PyBytes_GET_SIZE(payload), put;
    PyObject *owner, *ahead, *before = NULL, *after = NULL;
    const char *text = utf8(key, &key_size, &owner);
    long long check = -1;

    if (text == NULL)
        return -1;
    put = length <= MOST_COPIED ? length : 0; /* one call for all of it */
    ahead = PyBytes_FromStringAndSize(NULL, key_size + (size > 0 ? 1 + size : 0) + put);
    if (ahead != NULL) {
        char *to = PyBytes_AS_STRING(ahead);
        memcpy(to, text, key_size);
        to += key_size;
        if (size > 0) {
            *to++ = '\0';
            memcpy(to, named, size);
            to += size;
        }
        memcpy(to, PyBytes_AS_STRING(payload), put);
        before = crc(state, ahead, NULL);
        after = before == NULL || put == length ? Py_XNewRef(before) : crc(state, payload, before);
        if (after != NULL)
            check = PyLong_AsLongLong(after);
    }
    Py_XDECREF(owner);
    Py_XDECREF(ahead);
    Py_XDECREF(before);
    Py_XDECREF(after);
    return check;
}

static int /* 1: *tags* are a tuple of the names with NULs between */
are_named(PyObject *tags, const char *named, Py_ssize_t size)
{
    const char *end = named + size;

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tags); i++) {
        PyObject *tag = PyTuple_GET_ITEM(tags, i);
        Py_ssize_t length;
        if (!PyUnicode_CheckExact(tag) || !PyUnicode_IS_COMPACT_ASCII(tag))
            return 0;
        length = PyUnicode_GET_LENGTH(tag);
        if ((i > 0 && (named == end || *named++ != '\0')) || length > end - named
            || memcmp(named, PyUnicode_DATA(tag), length) != 0)
            return 0;
        named += length;
    }
    return named == end && PyTuple_GET_SIZE(tags) > 0;
}

static PyObject * /* of the names with NULs between; NULL with or without an error where they are no text */
tags_of(const char *named, Py_ssize_t size)
{
    const char *end = named + size, *nul;
    Py_ssize_t number = size > 0;
    PyObject *tags;

    for (nul = named; size > 0 && (nul = memchr(nul, '\0', end - nul)) != NULL; nul++)
        number++;
    if (number > MOST_TAGS || (tags = PyTuple_New(number)) == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < number; i++, named = nul + 1) {
        PyObject *tag;
        nul = memchr(named, '\0', end - named);
        if (nul == NULL)
            nul = end;
        tag = PyUnicode_DecodeUTF8(named, nul - named, NULL);
        if (tag == NULL) {
            Py_DECREF(tags);
            return NULL;
        }
        PyTuple_SET_ITEM(tags, i, tag);
    }
    return tags;
}

/* Whether *at stands before a number and a bar; then it is behind them. */
static int
field(const char **at, const char *end, long long *number)
{
    *number = digits(at, end);
    if (*number < 0 || *at == end || **at != '|')
        return 0;
    ++*at;
    return 1;
}

static int
hex(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static int /* likewise, of at most 15 lower-case digits */
hex_field(const char **at, const char *end, long long *number)
{
    const char *from = *at;

    for (*number = 0; *at < end && hex(**at) >= 0 && *at - from < 15; ++*at)
        *number = *number * 16 + hex(**at);
    if (*at == from || *at == end || **at != '|')
        return 0;
    ++*at;
    return 1;
}

int
is_stored(State *state, PyObject *raw, PyObject *key, PyObject *likely, Stored *stored)
{
    const char *at, *end, *checked;
    long long check, size;

    stored->tags = stored->payload = NULL;
    if (!PyBytes_CheckExact(raw) || state->crc32 == NULL)
        return 0;
    at = PyBytes_AS_STRING(raw);
    end = at + PyBytes_GET_SIZE(raw);
    if (end - at < 2 || at[0] != '1' || at[1] != '|')
        return 0;
    at += 2;
    if (!field(&at, end, &stored->epoch) || !field(&at, end, &stored->token)
        || !field(&at, end, &stored->expiry_ms))
        return 0;
    checked = at;
    if (!hex_field(&at, end, &check) || at - checked != 9 || !hex_field(&at, end, &stored->print)
        || !field(&at, end, &size) || size > end - at)
        return 0;
    stored->payload = PyBytes_FromStringAndSize(at + size, end - at - size);
    if (stored->payload != NULL && check_of(state, key, at, size, stored->payload) == check) {
        stored->tags = likely != NULL && are_named(likely, at, size) ? Py_NewRef(likely) : tags_of(at, size);
        if (stored->tags != NULL)
            return 1;
    }
    Py_CLEAR(stored->payload);
    return 0;
}

PyObject *
made_tuple(PyTypeObject *type, PyObject *fields)
{
#if PY_VERSION_HEX >= 0x030E0000 /* a tuple keeps its hash, and has to be told that it has none */
    PyObject *arguments = PyTuple_Pack(1, fields), *made = NULL;

    if (arguments != NULL)
        made = PyTuple_Type.tp_new(type, arguments, NULL);
    Py_XDECREF(arguments);
#else
    PyObject *made = type->tp_alloc(type, PyTuple_GET_SIZE(fields));

    for (Py_ssize_t i = 0; made != NULL && i < PyTuple_GET_SIZE(fields); i++)
        PyTuple_SET_ITEM(made, i, Py_NewRef(PyTuple_GET_ITEM(fields, i)));
#endif
    Py_DECREF(fields);
    return made;
}

PyObject *
stored_entry(State *state, Stored *stored)
{
    PyObject *fields = Py_BuildValue("(LLLLNN)", stored->epoch, stored->token, stored->expiry_ms,
                                     stored->print, stored->tags, stored->payload);

    return fields == NULL ? NULL : made_tuple(state->stored_type, fields);
}

PyObject *
in_python(PyObject *twin, PyObject *one, PyObject *other)
{
    PyObject *arguments[] = {one, other}, *answer;

    PyErr_Clear();
    if (twin == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "use_entries() and use_looks() come first");
        return NULL;
    }
    Py_INCREF(twin);
    answer = PyObject_Vectorcall(twin, arguments, 2, NULL);
    Py_DECREF(twin);
    return answer;
}

static PyObject *
parse_entry(PyObject *module, PyObject *const *arguments, Py_ssize_t number)
{
    State *state = PyModule_GetState(module);
    Stored stored;

    if (number != 2) {
        PyErr_Format(PyExc_TypeError, "parse_entry() takes 2 arguments, not %zd", number);
        return NULL;
    }
    if (state->stored_type != NULL && is_stored(state, arguments[0], arguments[1], NULL, &stored))
        return stored_entry(state, &stored);
    return in_python(state->parse_in_python, arguments[0], arguments[1]);
}

/* ---- of the module */

static PyObject *
use_entries(PyObject *module, PyObject *args)
{
    State *state = PyModule_GetState(module);
    PyTypeObject *stored;
    PyObject *parse;

    if (!PyArg_ParseTuple(args, "O!O:use_entries", &PyType_Type, &stored, &parse))
        return NULL;
    if (!PyType_IsSubtype(stored, &PyTuple_Type)) {
        PyErr_Format(PyExc_TypeError, "%R is no tuple", stored);
        return NULL;
    }
    Py_XSETREF(state->stored_type, (PyTypeObject *)Py_NewRef(stored));
    Py_XSETREF(state->parse_in_python, Py_NewRef(parse));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"use_entries", use_entries, METH_VARARGS,
     "use_entries(StoredEntry, parse_entry): what to make of an entry, and what to ask where it is unusual."},
    {"parse_entry", (PyCFunction)(void (*)(void))parse_entry, METH_FASTCALL,
     "parse_entry(raw, key): as that of tiercache._core.records."},
    {NULL},
};

int
add_entries(PyObject *module, State *state)
{
    PyObject *zlib = PyImport_ImportModule("zlib");

    if (zlib == NULL)
        return -1;
    state->crc32 = PyObject_GetAttrString(zlib, "crc32");
    Py_DECREF(zlib);
    return state->crc32 == NULL ? -1 : PyModule_AddFunctions(module, methods);
}

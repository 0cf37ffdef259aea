/* The key and the tags of a usual call, and the check of usual ones that are given, compiled; see
   tiercache/_core/namers.py.

   Usual is a call whose arguments are all given by place, and where those that are written out are
   whole numbers and short printable texts. What is written for them is what key_text.py and tags.py
   write; any other call is answered with None, and named there.

   Usual too are a short printable text for a key, and a few different ones, none of a row, for tags.  */

#include "_compiled.h"

enum { MOST_TEXT = 128, MOST_KEY = 512, MOST_TAGS = 16 };

static const long long MOST_NUMBER = 1000000000000000000; /* 10**18, of either sign */

/* A piece of text, and which argument follows it; -1: none. */
typedef struct {
    PyObject *text;
    Py_ssize_t argument;
} Piece;

typedef struct {
    PyObject_HEAD
    PyObject *leaves;      /* by type: what counts in keys, among other types */
    Py_ssize_t arguments;  /* of a whole call */
    Py_ssize_t pieces;     /* of the key, and then of the tags, two each */
    Py_ssize_t of_key;
    Piece *piece;
} Namer;

/* What is written for one argument. */
typedef struct {
    char digits[MOST_DIGITS];
    const char *text;
    Py_ssize_t size;
    int is_text;
} Word;

static int
is_written_plainly(const char *text, Py_ssize_t size)
{
    if (size > MOST_TEXT)
        return 0;
    for (Py_ssize_t i = 0; i < size; i++)
        if (text[i] < ' ' || text[i] > '~' || text[i] == '\'' || text[i] == '\\')
            return 0;
    return 1;
}

/* Whether *argument* is of a usual kind; no error is set where it is not. */
static int
is_word(Namer *self, PyObject *argument, Word *word)
{
    PyObject *type = (PyObject *)Py_TYPE(argument);
    int overflow;
    long long number;

    word->is_text = PyUnicode_CheckExact(argument);
    if (!(word->is_text || PyLong_CheckExact(argument)) || PyDict_GetItemWithError(self->leaves, type) == NULL)
        return 0;
    if (word->is_text) {
        if (!PyUnicode_IS_COMPACT_ASCII(argument))
            return 0;
        word->text = (const char *)PyUnicode_1BYTE_DATA(argument);
        word->size = PyUnicode_GET_LENGTH(argument);
        return is_written_plainly(word->text, word->size);
    }
    number = PyLong_AsLongLongAndOverflow(argument, &overflow);
    if (overflow || number <= -MOST_NUMBER || number >= MOST_NUMBER)
        return 0;
    word->text = decimal(word->digits + sizeof word->digits, number);
    word->size = word->digits + sizeof word->digits - word->text;
    return 1;
}

typedef struct {
    char *at, *end;
} Room;

static int
put(Room *room, const char *text, Py_ssize_t size)
{
    if (size > room->end - room->at)
        return 0;
    memcpy(room->at, text, size);
    room->at += size;
    return 1;
}

static int
put_piece(Room *room, PyObject *text)
{
    return put(room, (const char *)PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text));
}

static PyObject *
made(const char *start, Room *room)
{
    PyObject *text = PyUnicode_New(room->at - start, 127);

    if (text != NULL)
        memcpy(PyUnicode_1BYTE_DATA(text), start, room->at - start);
    return text;
}

/* NULL without an error where the call is not a usual one. */
static PyObject *
key_of(Namer *self, PyObject *args)
{
    char start[MOST_KEY];
    Room room = {start, start + sizeof start};
    Word word;

    for (Py_ssize_t i = 0; i < self->of_key; i++) {
        Piece *piece = &self->piece[i];
        if (!put_piece(&room, piece->text))
            return NULL;
        if (piece->argument < 0)
            continue;
        if (!is_word(self, PyTuple_GET_ITEM(args, piece->argument), &word) || (word.is_text && !put(&room, "'", 1))
            || !put(&room, word.text, word.size) || (word.is_text && !put(&room, "'", 1)))
            return NULL;
    }
    return made(start, &room);
}

static PyObject *
tag_of(Namer *self, Piece *piece, PyObject *args)
{
    char start[MOST_KEY];
    Room room = {start, start + sizeof start};
    Word word;

    if (piece->argument < 0)
        return Py_NewRef(piece->text);
    if (!is_word(self, PyTuple_GET_ITEM(args, piece->argument), &word) || !put_piece(&room, piece->text)
        || !put(&room, word.text, word.size) || !put_piece(&room, piece[1].text))
        return NULL;
    return made(start, &room);
}

/* Likewise. Tags that come out alike are left to be told apart elsewhere. */
static PyObject *
tags_of(Namer *self, PyObject *args)
{
    Py_ssize_t number = (self->pieces - self->of_key) / 2;
    PyObject *tags = PyTuple_New(number), *tag;

    for (Py_ssize_t i = 0; tags != NULL && i < number; i++) {
        tag = tag_of(self, &self->piece[self->of_key + 2 * i], args);
        for (Py_ssize_t j = 0; tag != NULL && j < i; j++)
            if (PyUnicode_Compare(PyTuple_GET_ITEM(tags, j), tag) == 0)
                Py_CLEAR(tag);
        if (tag == NULL)
            Py_CLEAR(tags);
        else
            PyTuple_SET_ITEM(tags, i, tag);
    }
    return tags;
}

int
name_call(PyObject *namer, PyObject *args, PyObject *kwargs, PyObject **key, PyObject **tags)
{
    Namer *self = (Namer *)namer;

    if (!PyTuple_CheckExact(args) || !PyDict_CheckExact(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "a call is named by its args and its kwargs");
        return -1;
    }
    if (PyTuple_GET_SIZE(args) != self->arguments || PyDict_GET_SIZE(kwargs) > 0)
        return 0;
    *key = key_of(self, args);
    *tags = *key == NULL ? NULL : tags_of(self, args);
    if (*tags != NULL)
        return 1;
    Py_CLEAR(*key);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *
namer_call(PyObject *self, PyObject *const *arguments, Py_ssize_t number)
{
    PyObject *key, *tags;
    int usual;

    if (number != 2) {
        PyErr_Format(PyExc_TypeError, "name() takes 2 arguments, not %zd", number);
        return NULL;
    }
    usual = name_call(self, arguments[0], arguments[1], &key, &tags);
    if (usual < 0)
        return NULL;
    if (usual == 0)
        Py_RETURN_NONE;
    return Py_BuildValue("(NN)", key, tags);
}

static int
take_piece(Namer *self, PyObject *pair)
{
    Piece *piece = &self->piece[self->pieces];
    PyObject *text;

    if (!PyTuple_Check(pair)) {
        PyErr_SetString(PyExc_TypeError, "a piece is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(pair, "Un:Namer", &text, &piece->argument))
        return -1;
    if (!PyUnicode_IS_COMPACT_ASCII(text) || piece->argument >= self->arguments) {
        PyErr_SetString(PyExc_ValueError, "a piece is ASCII, and followed by an argument of the call");
        return -1;
    }
    piece->text = Py_NewRef(text);
    self->pieces++;
    return 0;
}

static PyObject *
namer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *leaves, *of_key, *of_tags;
    Py_ssize_t arguments, most;
    Namer *self;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Namer() takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!nO!O!:Namer", &PyDict_Type, &leaves, &arguments, &PyTuple_Type, &of_key,
                          &PyTuple_Type, &of_tags))
        return NULL;
    if (PyTuple_GET_SIZE(of_tags) % 2) {
        PyErr_SetString(PyExc_ValueError, "a tag is two pieces");
        return NULL;
    }
    self = (Namer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->leaves = Py_NewRef(leaves);
    self->arguments = arguments;
    self->of_key = PyTuple_GET_SIZE(of_key);
    most = self->of_key + PyTuple_GET_SIZE(of_tags);
    self->piece = PyMem_Calloc(most + 1, sizeof(Piece));
    if (self->piece == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    while (self->pieces < most) {
        Py_ssize_t i = self->pieces;
        PyObject *pair = i < self->of_key ? PyTuple_GET_ITEM(of_key, i)
                                          : PyTuple_GET_ITEM(of_tags, i - self->of_key);
        if (take_piece(self, pair) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static void
namer_dealloc(Namer *self)
{
    PyTypeObject *type = Py_TYPE(self);

    for (Py_ssize_t i = 0; i < self->pieces; i++)
        Py_DECREF(self->piece[i].text);
    PyMem_Free(self->piece);
    Py_XDECREF(self->leaves);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef namer_methods[] = {
    {"name", (PyCFunction)(void (*)(void))namer_call, METH_FASTCALL,
     "name(args, kwargs): the key and the tags of a call; None where it is not a usual one."},
    {NULL},
};

static PyType_Slot namer_slots[] = {
    {Py_tp_doc, "Namer(leaves, arguments, of_key, of_tags): names the usual calls of one function."},
    {Py_tp_new, namer_new},
    {Py_tp_dealloc, namer_dealloc},
    {Py_tp_methods, namer_methods},
    {0, NULL},
};

static PyType_Spec namer_spec = {
    .name = "tiercache._compiled.Namer",
    .basicsize = sizeof(Namer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = namer_slots,
};

/* ---- the check of a key and tags that are given */

static int
is_sure(PyObject *name)
{
    const char *text;
    Py_ssize_t size;

    if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_COMPACT_ASCII(name))
        return 0;
    text = (const char *)PyUnicode_1BYTE_DATA(name);
    size = PyUnicode_GET_LENGTH(name);
    if (size < 1 || size > MOST_KEY)
        return 0;
    for (Py_ssize_t i = 0; i < size; i++)
        if (text[i] < ' ' || text[i] > '~')
            return 0;
    return 1;
}

static int
are_sure(PyObject *tags)
{
    Py_ssize_t number = PyTuple_GET_SIZE(tags);

    if (number > MOST_TAGS)
        return 0;
    for (Py_ssize_t i = 0; i < number; i++) {
        PyObject *tag = PyTuple_GET_ITEM(tags, i);
        if (!is_sure(tag) || strncmp((const char *)PyUnicode_1BYTE_DATA(tag), "row:", 4) == 0)
            return 0;
        for (Py_ssize_t j = 0; j < i; j++)
            if (PyUnicode_Compare(PyTuple_GET_ITEM(tags, j), tag) == 0)
                return 0;
    }
    return 1;
}

static PyObject *
sure_tags(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t number)
{
    PyObject *tags;

    if (number != 2) {
        PyErr_SetString(PyExc_TypeError, "sure_tags() takes a key and tags");
        return NULL;
    }
    tags = arguments[1];
    if (!is_sure(arguments[0]) || !(PyList_CheckExact(tags) || PyTuple_CheckExact(tags)))
        Py_RETURN_NONE;
    tags = PySequence_Tuple(tags); /* before they are checked: whoever has the list may change it */
    if (tags != NULL && !are_sure(tags))
        Py_SETREF(tags, Py_NewRef(Py_None));
    return tags;
}

static PyMethodDef functions[] = {
    {"sure_tags", (PyCFunction)(void (*)(void))sure_tags, METH_FASTCALL,
     "sure_tags(key, tags): the tags, where they and the key are usual and need no other check; else None."},
    {NULL},
};

int
add_names(PyObject *module, State *state)
{
    state->namer_type = added_type(module, &namer_spec);
    return state->namer_type == NULL ? -1 : PyModule_AddFunctions(module, functions);
}

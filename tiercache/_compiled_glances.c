/* Reads of L2 without a plan, compiled; see tiercache/_glances.py.

   What is asked before a look and after it are the rules of tiercache/_core/l2_hits.py, for the usual read
   alone: nothing is under way that might change its answer, and what was found is good. All else is answered
   with None or Unanswered, before anything is changed, and left to those rules in Python.  */

#include "_compiled.h"
#include <math.h>

#define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

enum { SHELF_SHIFT = 24, MOST_PROSPECT = 8 }; /* of shelves.py and tiers.py */

typedef struct {
    PyObject_HEAD
    PyObject *module; /* to the end: one that is cleared still asks its State */
    State *state;
    PyObject *namer; /* NULL: keys and tags are given */
    /* NULL, all of them, once it is cleared. */
    PyObject *core, *counts, *flights, *looking, *shelves, *clock, *decode;
    long long print; /* of an entry that will do; -1: any */
    int keeps; /* whether L1 is looked in before, and filled after */
} Glancer;

/* ---- what both ends ask */

static int /* 1: the context is in no load and in no transaction */
is_outside(State *state)
{
    PyObject *load, *writings;
    int outside;

    if (PyContextVar_Get(state->of_glances.current_load, NULL, &load) < 0)
        return -1;
    outside = load == Py_None;
    Py_XDECREF(load);
    if (!outside || PyContextVar_Get(state->of_glances.writings, NULL, &writings) < 0)
        return outside ? -1 : 0;
    outside = writings != NULL && PyTuple_CheckExact(writings) && PyTuple_GET_SIZE(writings) == 0;
    Py_XDECREF(writings);
    return outside;
}

static int
is_empty_dict(PyObject *object)
{
    return object != NULL && PyDict_CheckExact(object) && PyDict_GET_SIZE(object) == 0;
}

static int /* 1: no invalidation of this process waits to be sent, and none is being prepared */
is_quiet(Glancer *self)
{
    Slots *at = &self->state->of_glances.at;

    return is_empty_dict(SLOT(self->core, at->pending)) && is_empty_dict(SLOT(self->core, at->held));
}

/* Whether L1 has an entry of *key*, in *entry, borrowed; -1 with an error. */
static int
is_in_l1(Glancer *self, PyObject *key, PyObject **entry)
{
    Py_hash_t hash = PyObject_Hash(key);
    Py_ssize_t shelf = (hash >> SHELF_SHIFT) & (PyTuple_GET_SIZE(self->shelves) - 1);

    if (hash == -1)
        return -1;
    *entry = PyDict_GetItemWithError(PyTuple_GET_ITEM(self->shelves, shelf), key);
    return *entry != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

static int
call(PyObject *lock, PyObject *name)
{
    PyObject *done = PyObject_CallMethodNoArgs(lock, name);

    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject * /* the core's lock, held and owned: in the child of a fork the core has another one */
acquired(Glancer *self)
{
    PyObject *lock = Py_XNewRef(SLOT(self->core, self->state->of_glances.at.lock));

    if (lock == NULL)
        PyErr_SetString(PyExc_AttributeError, "the core has no lock");
    else if (call(lock, self->state->of_glances.acquire) < 0)
        Py_CLEAR(lock);
    return lock;
}

static int /* an error that stands goes on standing, unless this meets one */
release(Glancer *self, PyObject *lock)
{
    int done;
#if PY_VERSION_HEX >= 0x030C0000
    PyObject *error = PyErr_GetRaisedException();

    done = call(lock, self->state->of_glances.release);
    if (done == 0 && error != NULL)
        PyErr_SetRaisedException(error);
    else
        Py_XDECREF(error);
#else
    PyObject *type, *value, *trace;

    PyErr_Fetch(&type, &value, &trace);
    done = call(lock, self->state->of_glances.release);
    if (done == 0 && type != NULL)
        PyErr_Restore(type, value, trace);
    else {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
    }
#endif
    Py_DECREF(lock);
    return done;
}

/* ---- before */

static PyObject * /* where the core stands, as of *now*; NULL, perhaps with an error */
stand_at(Glancer *self, double now)
{
    State *state = self->state;
    Slots *at = &state->of_glances.at;
    Py_ssize_t fields[] = {at->epoch, at->generation, at->proved, at->applied, at->seen, at->own, at->lease};
    PyObject *instant = PyFloat_FromDouble(now), *stand = NULL, *lock, *whole;

    if (instant == NULL || (lock = acquired(self)) == NULL) {
        Py_XDECREF(instant);
        return NULL;
    }
    whole = PyTuple_New(8);
    for (int i = 0; whole != NULL && i < 7; i++) {
        PyObject *field = SLOT(self->core, fields[i]);
        if (field == NULL)
            Py_CLEAR(whole);
        else
            PyTuple_SET_ITEM(whole, i, Py_NewRef(field));
    }
    if (whole != NULL)
        PyTuple_SET_ITEM(whole, 7, instant);
    else
        Py_DECREF(instant);
    if (release(self, lock) < 0)
        Py_CLEAR(whole);
    if (whole != NULL)
        stand = made_tuple(state->of_glances.stand_type, whole);
    return stand;
}

static int /* 1: *stand* has a lease that is good at its instant */
is_leased(PyObject *stand)
{
    PyObject *lease = PyTuple_GET_ITEM(stand, 6), *at = PyTuple_GET_ITEM(stand, 7);

    return PyFloat_CheckExact(lease) && PyFloat_AS_DOUBLE(lease) > PyFloat_AS_DOUBLE(at);
}

static int /* 1: nobody flies or looks for *key*, and L1 does not answer at *now*; -1 with an error */
is_to_be_asked(Glancer *self, PyObject *key, double now)
{
    PyObject *entry;
    int there = PySet_Contains(self->looking, key);

    if (there == 0)
        there = PyDict_Contains(self->flights, key);
    if (there == 0 && self->keeps) {
        there = is_in_l1(self, key, &entry);
        if (there == 1 && Py_IS_TYPE(entry, self->state->entry_type))
            there = now < ((Timed *)entry)->deadline;
    }
    return there < 0 ? -1 : !there;
}

static PyObject * /* a look for *key*, as of *stand* */
look_for(State *state, PyObject *stand, PyObject *key, PyObject *tags)
{
    PyObject *keys = PyTuple_Pack(1, key), *fields;

    if (keys == NULL)
        return NULL;
    fields = PyTuple_Pack(4, PyTuple_GET_ITEM(stand, 0), PyTuple_GET_ITEM(stand, 4), keys, tags);
    Py_DECREF(keys);
    return fields == NULL ? NULL : made_tuple(state->of_glances.look_type, fields);
}

/* The look and the stand; NULL without an error where a plan must see to it. */
static PyObject *
begun(Glancer *self, PyObject *key, PyObject *tags)
{
    PyObject *stand, *look, *asked;
    double now;
    int free = 0;

    if (read_clock(self->state, self->clock, &now) < 0 || (stand = stand_at(self, now)) == NULL)
        return NULL;
    if ((look = look_for(self->state, stand, key, tags)) == NULL) {
        Py_DECREF(stand);
        return NULL;
    }
    asked = PyTuple_Pack(2, look, stand);
    Py_DECREF(look);
    Py_DECREF(stand);
    if (asked == NULL)
        return NULL;
    /* From here on nothing is made, so no foreign code runs, and no other thread. */
    if (self->core != NULL && is_leased(stand) && is_quiet(self))
        free = is_to_be_asked(self, key, now);
    if (free != 1 || PySet_Add(self->looking, key) < 0)
        Py_CLEAR(asked);
    return asked;
}

static int /* 1: what *arguments* ask for has a *key and *tags, owned; 0: a plan must see to it; -1 with an error */
named(Glancer *self, PyObject *const *arguments, PyObject **key, PyObject **tags)
{
    long long prospect;

    if (self->namer != NULL) {
        if (!is_small(SLOT(self->counts, self->state->of_glances.at.prospect), &prospect) || prospect <= 0)
            return 0;
        return name_call(self->namer, arguments[0], arguments[1], key, tags);
    }
    if (!PyUnicode_CheckExact(arguments[0]) || !PyTuple_CheckExact(arguments[1]))
        return 0;
    *key = Py_NewRef(arguments[0]);
    *tags = Py_NewRef(arguments[1]);
    return 1;
}

static PyObject *
glancer_begin(Glancer *self, PyObject *const *arguments, Py_ssize_t number)
{
    PyObject *key, *tags, *asked = NULL;
    int usual;

    if (number != 2) {
        PyErr_Format(PyExc_TypeError, "begin() takes 2 arguments, not %zd", number);
        return NULL;
    }
    if (self->core == NULL)
        Py_RETURN_NONE;
    usual = is_outside(self->state);
    if (usual == 1)
        usual = named(self, arguments, &key, &tags);
    if (usual == 1) {
        asked = begun(self, key, tags);
        Py_DECREF(key);
        Py_DECREF(tags);
    }
    if (asked == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return asked;
}

/* ---- after */

static int /* *number, which was *before*, is at least *head* from now on; -1 with an error */
raise_to(PyObject **number, long long before, long long head)
{
    PyObject *raised;

    if (before >= head)
        return 0;
    if ((raised = PyLong_FromLongLong(head)) == NULL)
        return -1;
    Py_XSETREF(*number, raised);
    return 0;
}

static int /* 1: what was sent at *stand* counts for *key* as of *head*; 0: not here; -1 with an error */
meets(Glancer *self, PyObject *stand, PyObject *key, long long head)
{
    Slots *at = &self->state->of_glances.at;
    long long epoch, generation, seen, answered, before[2];
    PyObject *lock = acquired(self), *entry;
    int good;

    if (lock == NULL)
        return -1;
    good = self->core != NULL && is_small(SLOT(self->core, at->epoch), &epoch)
        && is_small(SLOT(self->core, at->generation), &generation)
        && is_small(SLOT(self->core, at->seen), &seen) && is_small(SLOT(self->core, at->answered), &answered)
        && is_small(PyTuple_GET_ITEM(stand, 0), &before[0])
        && is_small(PyTuple_GET_ITEM(stand, 1), &before[1]) && epoch == before[0] && generation == before[1];
    if (good) {
        int there = is_in_l1(self, key, &entry);
        good = there < 0 ? -1 : !there;
    }
    if (good == 1
        && (raise_to(&SLOT(self->core, at->seen), seen, head) < 0
            || raise_to(&SLOT(self->core, at->answered), answered, head) < 0))
        good = -1;
    return release(self, lock) < 0 ? -1 : good;
}

static PyObject * /* NULL without an error where the rules in Python must look at it: it is compressed, or torn */
decoded(Glancer *self, PyObject *payload)
{
    PyObject *value, *plain = self->state->of_glances.plain;

    if (PyBytes_GET_SIZE(payload) > 0 && plain != NULL && *PyBytes_AS_STRING(payload) == *PyBytes_AS_STRING(plain))
        value = PyObject_CallOneArg(self->state->of_glances.loads, payload);
    else
        value = PyObject_CallOneArg(self->decode, payload);

    if (value == NULL && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
    return value;
}

/* The value for which *arguments* are a look, its stand and what it found; *stored*, *left and *head with it. */
static PyObject *
judged(Glancer *self, PyObject *const *arguments, Py_ssize_t number, Stored *stored, double *left,
       long long *head)
{
    State *state = self->state;
    PyObject *look, *stand, *key, *keys, *tags, *value = NULL;
    int good;

    if (number != 3 || !Py_IS_TYPE(arguments[0], state->of_glances.look_type)
        || !Py_IS_TYPE(arguments[1], state->of_glances.stand_type) || PyTuple_GET_SIZE(arguments[0]) != 4
        || PyTuple_GET_SIZE(arguments[1]) != 8) {
        PyErr_SetString(PyExc_TypeError, "it takes a look, where it was sent from, and what it found");
        return NULL;
    }
    look = arguments[0];
    stand = arguments[1];
    keys = PyTuple_GET_ITEM(look, 2);
    tags = PyTuple_GET_ITEM(look, 3);
    if (self->core == NULL || !PyTuple_CheckExact(keys) || PyTuple_GET_SIZE(keys) != 1 || !PyTuple_CheckExact(tags))
        goto unanswered;
    key = PyTuple_GET_ITEM(keys, 0);
    good = is_good(state, arguments[2], key, tags, stored, left, head);
    if (good == 1) {
        good = self->print < 0 || stored->print == self->print ? meets(self, stand, key, *head) : 0;
        if (good == 1 && (value = decoded(self, stored->payload)) != NULL) {
            good = self->core != NULL && is_quiet(self) ? is_outside(state) : 0;
            if (good != 1)
                Py_CLEAR(value);
        }
        if (value == NULL) {
            Py_DECREF(stored->tags);
            Py_DECREF(stored->payload);
        }
    }
    if (value != NULL || PyErr_Occurred())
        return value;
unanswered:
    PyErr_SetNone(state->unanswered == NULL ? PyExc_RuntimeError : state->unanswered);
    return NULL;
}

static int
count_hit(Glancer *self)
{
    Slots *at = &self->state->of_glances.at;
    PyObject *hits = SLOT(self->counts, at->l2_hits), *more;
    long long prospect, number;

    if (is_small(hits, &number)) {
        if ((more = PyLong_FromLongLong(number + 1)) == NULL)
            return -1;
        Py_SETREF(SLOT(self->counts, at->l2_hits), more);
    }
    if (self->namer != NULL && is_small(SLOT(self->counts, at->prospect), &prospect) && prospect < MOST_PROSPECT) {
        if ((more = PyObject_CallMethod(self->counts, "learn", "i", 1)) == NULL)
            return -1;
        Py_DECREF(more);
    }
    return 0;
}

static PyObject *
glancer_value(Glancer *self, PyObject *const *arguments, Py_ssize_t number)
{
    Stored stored;
    double left;
    long long head;
    PyObject *value = judged(self, arguments, number, &stored, &left, &head);

    if (value == NULL)
        return NULL;
    Py_DECREF(stored.tags);
    Py_DECREF(stored.payload);
    if (count_hit(self) < 0)
        Py_CLEAR(value);
    return value;
}

static PyObject *
glancer_taken(Glancer *self, PyObject *const *arguments, Py_ssize_t number)
{
    Stored stored;
    double left;
    long long head;
    PyObject *value = judged(self, arguments, number, &stored, &left, &head), *entry, *payload, *fields;

    if (value == NULL)
        return NULL;
    payload = Py_NewRef(stored.payload);
    entry = stored_entry(self->state, &stored);
    if (entry == NULL || count_hit(self) < 0) {
        Py_DECREF(value);
        Py_DECREF(payload);
        Py_XDECREF(entry);
        return NULL;
    }
    fields = Py_BuildValue("(NNNdOL)", value, payload, entry, left, arguments[1], head);
    return fields == NULL ? NULL : made_tuple(self->state->of_glances.taken_type, fields);
}

/* ---- Glancer */

static PyObject *
glancer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"namer", "core",   "counts", "flights", "looking", "shelves",
                            "clock", "decode", "print",  "keeps",   NULL};
    PyObject *module = PyType_GetModule(type); /* there are no subclasses */
    State *state = PyModule_GetState(module);
    PyObject *namer, *core, *counts, *flights, *looking, *shelves, *clock, *decode;
    long long print;
    int keeps;
    Glancer *self;

    if (state->of_glances.taken_type == NULL || state->core_type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "use() and use_glances() come before Glancer()");
        return NULL;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O!O!O!O!OOLp:Glancer", names, &namer, state->core_type,
                                     &core, state->of_glances.counts_type, &counts, &PyDict_Type, &flights,
                                     &PySet_Type, &looking, &PyTuple_Type, &shelves, &clock, &decode, &print,
                                     &keeps))
        return NULL;
    if (namer != Py_None && !Py_IS_TYPE(namer, state->namer_type)) {
        PyErr_SetString(PyExc_TypeError, "a namer is a Namer, or None");
        return NULL;
    }
    if (PyTuple_GET_SIZE(shelves) == 0 || (PyTuple_GET_SIZE(shelves) & (PyTuple_GET_SIZE(shelves) - 1))) {
        PyErr_SetString(PyExc_ValueError, "the number of shelves is a power of two");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shelves); i++)
        if (!PyDict_CheckExact(PyTuple_GET_ITEM(shelves, i))) {
            PyErr_SetString(PyExc_TypeError, "a shelf is a dict");
            return NULL;
        }
    self = (Glancer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->module = Py_NewRef(module);
    self->state = state;
    self->namer = namer == Py_None ? NULL : Py_NewRef(namer);
    self->core = Py_NewRef(core);
    self->counts = Py_NewRef(counts);
    self->flights = Py_NewRef(flights);
    self->looking = Py_NewRef(looking);
    self->shelves = Py_NewRef(shelves);
    self->clock = Py_NewRef(clock);
    self->decode = Py_NewRef(decode);
    self->print = print;
    self->keeps = keeps;
    return (PyObject *)self;
}

static int
glancer_traverse(Glancer *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->module);
    Py_VISIT(self->namer);
    Py_VISIT(self->core);
    Py_VISIT(self->counts);
    Py_VISIT(self->flights);
    Py_VISIT(self->looking);
    Py_VISIT(self->shelves);
    Py_VISIT(self->clock);
    Py_VISIT(self->decode);
    return 0;
}

static int
glancer_clear(Glancer *self)
{
    Py_CLEAR(self->core); /* first: without it nothing is asked, whatever it means that there is no namer */
    Py_CLEAR(self->namer);
    Py_CLEAR(self->counts);
    Py_CLEAR(self->flights);
    Py_CLEAR(self->looking);
    Py_CLEAR(self->shelves);
    Py_CLEAR(self->clock);
    Py_CLEAR(self->decode);
    return 0;
}

static void
glancer_dealloc(Glancer *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    glancer_clear(self);
    Py_XDECREF(self->module);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef glancer_methods[] = {
    {"begin", (PyCFunction)(void (*)(void))glancer_begin, METH_FASTCALL,
     "begin(args, kwargs), of a call, or begin(key, tags) where there is no namer: the look to send, whose key is\n"
     "now among those looked for, and where it is sent from; None where a plan must see to it."},
    {"value", (PyCFunction)(void (*)(void))glancer_value, METH_FASTCALL,
     "value(look, stand, looked): the value that was found, counted as a hit; else Unanswered is raised. What\n"
     "it says of the next look is counted where there is a namer."},
    {"taken", (PyCFunction)(void (*)(void))glancer_taken, METH_FASTCALL,
     "taken(look, stand, looked): likewise, with what is known of it."},
    {NULL},
};

static PyType_Slot glancer_slots[] = {
    {Py_tp_doc, "Glancer(...): reads of one function in L2 that need no plan; see tiercache._glances."},
    {Py_tp_new, glancer_new},
    {Py_tp_dealloc, glancer_dealloc},
    {Py_tp_traverse, glancer_traverse},
    {Py_tp_clear, glancer_clear},
    {Py_tp_methods, glancer_methods},
    {0, NULL},
};

static PyType_Spec glancer_spec = {
    .name = "tiercache._compiled.Glancer",
    .basicsize = sizeof(Glancer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = glancer_slots,
};

/* ---- of the module */

static PyObject *
use_glances(PyObject *module, PyObject *args)
{
    OfGlances *of = &((State *)PyModule_GetState(module))->of_glances;
    PyObject *core, *counts, *stand, *look, *taken, *load, *writings, *plain, *loads;
    Slots *at = &of->at;
    struct {
        PyObject **type;
        const char *name;
        Py_ssize_t *offset;
    } slots[] = {
        {&core, "lock", &at->lock},         {&core, "epoch", &at->epoch},
        {&core, "proved", &at->proved},     {&core, "generation", &at->generation},
        {&core, "applied", &at->applied},   {&core, "seen", &at->seen},
        {&core, "answered", &at->answered}, {&core, "own", &at->own},
        {&core, "lease", &at->lease},       {&core, "pending", &at->pending},
        {&core, "held", &at->held},         {&counts, "l2_hits", &at->l2_hits},
        {&counts, "prospect", &at->prospect},
    };

    if (!PyArg_ParseTuple(args, "O!O!O!O!O!O!O!SO:use_glances", &PyType_Type, &core, &PyType_Type, &counts,
                          &PyType_Type, &stand, &PyType_Type, &look, &PyType_Type, &taken,
                          &PyContextVar_Type, &load, &PyContextVar_Type, &writings, &plain, &loads))
        return NULL;
    if (PyBytes_GET_SIZE(plain) != 1) {
        PyErr_SetString(PyExc_ValueError, "what is plain begins with one byte");
        return NULL;
    }
    if (!PyType_IsSubtype((PyTypeObject *)stand, &PyTuple_Type) || !PyType_IsSubtype((PyTypeObject *)look, &PyTuple_Type)
        || !PyType_IsSubtype((PyTypeObject *)taken, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "a Stand, a Look and a Taken are tuples");
        return NULL;
    }
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++)
        if (offset_of(*slots[i].type, slots[i].name, slots[i].offset) < 0)
            return NULL;
    Py_XSETREF(of->counts_type, (PyTypeObject *)Py_NewRef(counts));
    Py_XSETREF(of->stand_type, (PyTypeObject *)Py_NewRef(stand));
    Py_XSETREF(of->look_type, (PyTypeObject *)Py_NewRef(look));
    Py_XSETREF(of->taken_type, (PyTypeObject *)Py_NewRef(taken));
    Py_XSETREF(of->current_load, Py_NewRef(load));
    Py_XSETREF(of->writings, Py_NewRef(writings));
    Py_XSETREF(of->plain, Py_NewRef(plain));
    Py_XSETREF(of->loads, Py_NewRef(loads));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"use_glances", use_glances, METH_VARARGS,
     "use_glances(Coherence, Counts, Stand, Look, Taken, current_load, writings, PLAIN, loads): the classes whose\n"
     "slots to read, what to make, where a context says what it is in, and how plain payloads are read."},
    {NULL},
};

int
add_glances(PyObject *module, State *state)
{
    PyTypeObject *type;

    if ((state->of_glances.acquire = PyUnicode_InternFromString("acquire")) == NULL
        || (state->of_glances.release = PyUnicode_InternFromString("release")) == NULL
        || (type = added_type(module, &glancer_spec)) == NULL)
        return -1;
    Py_DECREF(type); /* the module has it under its name */
    return PyModule_AddFunctions(module, methods);
}

#define EACH(of, ask) \
    ask((of)->counts_type); ask((of)->stand_type); ask((of)->look_type); ask((of)->taken_type); \
    ask((of)->current_load); ask((of)->writings); ask((of)->acquire); ask((of)->release); \
    ask((of)->plain); ask((of)->loads)

int
traverse_glances(OfGlances *of, visitproc visit, void *arg)
{
    EACH(of, Py_VISIT);
    return 0;
}

void
clear_glances(OfGlances *of)
{
    EACH(of, Py_CLEAR);
}

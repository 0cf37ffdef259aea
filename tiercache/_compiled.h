/* What the sources of _compiled have in common: its state, and what one of them asks of another. */

#ifndef TIERCACHE_COMPILED_H
#define TIERCACHE_COMPILED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stddef.h>

/* Where the slots of a core and of counts are. */
typedef struct {
    Py_ssize_t lock, epoch, generation, proved, applied, seen, answered, own, lease, pending, held, l2_hits,
        prospect;
} Slots;

/* Of use_glances(). */
typedef struct {
    PyTypeObject *counts_type, *stand_type, *look_type, *taken_type;
    PyObject *current_load, *writings; /* context variables */
    PyObject *acquire, *release;       /* of a lock */
    PyObject *plain, *loads;           /* what a plain payload begins with, and what reads one */
    Slots at;
} OfGlances;

/* Of use_waiters(). */
typedef struct {
    PyTypeObject *waiter_type;
    PyObject *cancelled_error;
    PyObject *call_soon, *by_name; /* of a loop, and the names of what it takes by name */
} OfWaiters;

/* Of one module; its objects are NULL once the garbage collector has cleared it. */
typedef struct {
    PyTypeObject *look_type, *tally_type, *timed_type, *looked_type, *namer_type;
    /* Of use(): the classes, and where their slots are. */
    PyTypeObject *entry_type, *core_type;
    Py_ssize_t at_value, at_restore, at_kind, at_open_until;
    PyObject *unanswered, *missing;
    PyObject *copy_function;    /* copy(), which is called directly where an entry is restored by it */
    PyObject *system_monotonic; /* time.monotonic, unless something else stands there */
    /* Of use_entries() and use_looks(): the class, and what is asked where the form is not the usual one. */
    PyTypeObject *stored_type;
    PyObject *parse_in_python, *good_in_python;
    PyObject *crc32; /* zlib's */
    OfGlances of_glances;
    OfWaiters of_waiters;
} State;

/* The base of Entry, with the instants that a hit compares and sets. */
typedef struct {
    PyObject_HEAD
    double deadline, stamp;
} Timed;

/* An entry of L2, taken apart. */
typedef struct {
    long long epoch, token, expiry_ms, print;
    PyObject *tags, *payload;
} Stored;

#pragma GCC visibility push(hidden)

/* The class, owned by the State, and by the module under its name. */
PyTypeObject *added_type(PyObject *module, PyType_Spec *spec);

/* Where the slot *name* is in the objects of *type*; an error where it has none. */
int offset_of(PyObject *type, const char *name, Py_ssize_t *offset);

/* What *clock* says; the system's is asked without it. */
int read_clock(State *state, PyObject *clock, double *now);

/* ---- _compiled_entries.c */

int add_entries(PyObject *module, State *state);

/* The decimal digits from *at on, 16 at most, and what follows them; -1 where that is no number, or a large one. */
long long digits(const char **at, const char *end);

enum { MOST_DIGITS = 20 }; /* and a sign, of any number of C's */

/* Where the decimal digits of *number*, with a sign if it is negative, begin, which end before *end*. */
char *decimal(char *end, long long number);

/* The UTF-8 of *text*, and in *owner what has to be released after use; NULL, and no error, where it has none.
   Text does not remember it, or every key outside of ASCII would be kept twice.  */
const char *utf8(PyObject *text, Py_ssize_t *size, PyObject **owner);

/* Whether *raw* is an entry of *key* in the usual form; then *stored* owns its tags and payload. *likely*: a
   tuple that is taken for its tags where it is equal, or NULL. If not, there may be an error, of memory or of no importance.  */
int is_stored(State *state, PyObject *raw, PyObject *key, PyObject *likely, Stored *stored);

/* A named tuple of *type*; takes over *fields*, a tuple. */
PyObject *made_tuple(PyTypeObject *type, PyObject *fields);

/* A StoredEntry; takes over what *stored* owns. */
PyObject *stored_entry(State *state, Stored *stored);

/* What *twin* says; an error that stands is one that it will meet as well. */
PyObject *in_python(PyObject *twin, PyObject *one, PyObject *other);

/* ---- _compiled_looks.c */

int add_looks(PyObject *module, State *state);

/* Whether *object* is a whole number of C's size. */
int is_small(PyObject *object, long long *number);

/* Whether *looked* has a good entry of *key*, of the usual form, as of *head, for *left seconds; then *stored*
   owns its tags and payload.  */
int is_good(State *state, PyObject *looked, PyObject *key, PyObject *likely, Stored *stored, double *left,
            long long *head);

/* ---- _compiled_names.c */

int add_names(PyObject *module, State *state);

/* Whether a call by *args* and *kwargs* is a usual one; then it has a *key and *tags, owned. -1 with an error. */
int name_call(PyObject *namer, PyObject *args, PyObject *kwargs, PyObject **key, PyObject **tags);

/* ---- _compiled_glances.c */

int add_glances(PyObject *module, State *state);
int traverse_glances(OfGlances *of, visitproc visit, void *arg);
void clear_glances(OfGlances *of);

/* ---- _compiled_waiters.c */

int add_waiters(PyObject *module, State *state);
int traverse_waiters(OfWaiters *of, visitproc visit, void *arg);
void clear_waiters(OfWaiters *of);

#pragma GCC visibility pop

#endif

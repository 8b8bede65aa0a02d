/* Asks a SavedModel through TensorFlow's C functions, as a server in C++ does: no Python, no kseq.

       client FOLDER OUTPUTS OUTPUT:INDEX … INPUT … < QUESTIONS

   FOLDER holds a SavedModel. OUTPUTS is the number of outputs that follow, tensors by their names in the graph; the inputs
   are operations of the graph. A question is a string for each input, each of them its number of bytes, a line feed, and
   the bytes. Questions are asked one by one until the standard input ends. The answers have the same form: for each output
   its first value, a number as text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

#define MOST 16

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

static TF_Output find(TF_Graph *graph, const char *name, int index) {
  TF_Output found = {TF_GraphOperationByName(graph, name), index};
  if (found.oper) return found;
  fprintf(stderr, "the graph has no operation %s\n", name);
  exit(1);
}

/* A batch of one string from the standard input; NULL where it has ended. */
static TF_Tensor *read_string(void) {
  size_t size;
  if (scanf("%zu", &size) != 1 || getchar() != '\n') return NULL;
  char *bytes = malloc(size + 1);
  if (!bytes || fread(bytes, 1, size, stdin) != size) {
    fprintf(stderr, "a string of %zu bytes is cut off\n", size);
    exit(1);
  }
  int64_t batch = 1;
  TF_Tensor *made = TF_AllocateTensor(TF_STRING, &batch, 1, sizeof(TF_TString));
  TF_TString *value = TF_TensorData(made);
  TF_StringInit(value);
  TF_StringCopy(value, bytes, size);
  free(bytes);
  return made;
}

static void write_first(TF_Tensor *answer) {
  if (TF_TensorType(answer) == TF_STRING) {
    const TF_TString *value = TF_TensorData(answer);
    printf("%zu\n", TF_StringGetSize(value));
    fwrite(TF_StringGetDataPointer(value), 1, TF_StringGetSize(value), stdout);
  } else if (TF_TensorType(answer) == TF_FLOAT) {
    char number[32];
    int size = snprintf(number, sizeof number, "%.9g", *(float *)TF_TensorData(answer));
    printf("%d\n%s", size, number);
  } else {
    fprintf(stderr, "an output of type %d\n", (int)TF_TensorType(answer));
    exit(1);
  }
}

int main(int argc, char **argv) {
  int output_count = argc > 2 ? atoi(argv[2]) : 0, input_count = argc - 3 - output_count;
  if (output_count < 1 || output_count > MOST || input_count < 1 || input_count > MOST) {
    fprintf(stderr, "client FOLDER OUTPUTS OUTPUT:INDEX ... INPUT ... < QUESTIONS\n");
    return 2;
  }
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, argv[1]);

  TF_Output inputs[MOST], outputs[MOST];
  TF_Tensor *given[MOST], *answers[MOST];
  for (int i = 0; i < output_count; ++i) {
    char *name = argv[3 + i], *colon = strrchr(name, ':');
    if (!colon) return 2;
    *colon = 0;
    outputs[i] = find(graph, name, atoi(colon + 1));
  }
  for (int i = 0; i < input_count; ++i) inputs[i] = find(graph, argv[3 + output_count + i], 0);
  for (;;) {
    for (int i = 0; i < input_count; ++i) {
      given[i] = read_string();
      if (given[i]) continue;
      TF_CloseSession(session, status);
      TF_DeleteSession(session, status);
      TF_DeleteSessionOptions(options);
      TF_DeleteGraph(graph);
      TF_DeleteStatus(status);
      return i > 0;
    }
    TF_SessionRun(session, NULL, inputs, given, input_count, outputs, answers, output_count, NULL, 0, NULL, status);
    check(status, "TF_SessionRun");
    for (int i = 0; i < output_count; ++i) {
      write_first(answers[i]);
      TF_DeleteTensor(answers[i]);
    }
    for (int i = 0; i < input_count; ++i) TF_DeleteTensor(given[i]);
  }
}

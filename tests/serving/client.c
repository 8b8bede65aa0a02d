/* Asks a SavedModel through TensorFlow's C functions, as a server in C++ does: no Python, no kseq.

       client FOLDER OUTPUTS OUTPUT:INDEX … INPUT=TEXT …

   FOLDER holds a SavedModel. OUTPUTS is the number of outputs that follow, tensors by their names in the graph. The
   inputs are operations of the graph, each with one text. Prints the first value of each output on a line. */
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

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "client FOLDER OUTPUTS OUTPUT:INDEX ... INPUT=TEXT ...\n");
    return 2;
  }
  int output_count = atoi(argv[2]), input_count = argc - 3 - output_count;
  if (output_count < 1 || output_count > MOST || input_count < 1 || input_count > MOST) return 2;
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
  for (int i = 0; i < input_count; ++i) {
    char *name = argv[3 + output_count + i], *text = strchr(name, '=');
    if (!text) return 2;
    *text++ = 0;
    inputs[i] = find(graph, name, 0);
    int64_t batch = 1;
    given[i] = TF_AllocateTensor(TF_STRING, &batch, 1, sizeof(TF_TString));
    TF_TString *value = TF_TensorData(given[i]);
    TF_StringInit(value);
    TF_StringCopy(value, text, strlen(text));
  }
  TF_SessionRun(session, NULL, inputs, given, input_count, outputs, answers, output_count, NULL, 0, NULL, status);
  check(status, "TF_SessionRun");

  for (int i = 0; i < output_count; ++i) {
    if (TF_TensorType(answers[i]) == TF_STRING) {
      const TF_TString *value = TF_TensorData(answers[i]);
      printf("%.*s\n", (int)TF_StringGetSize(value), TF_StringGetDataPointer(value));
    } else if (TF_TensorType(answers[i]) == TF_FLOAT) {
      printf("%.9g\n", *(float *)TF_TensorData(answers[i]));
    } else {
      printf("of type %d\n", (int)TF_TensorType(answers[i]));
    }
    TF_DeleteTensor(answers[i]);
  }
  for (int i = 0; i < input_count; ++i) TF_DeleteTensor(given[i]);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
